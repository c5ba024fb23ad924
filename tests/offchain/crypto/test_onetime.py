from __future__ import annotations

import pytest

from quietfleet.crypto.onetime import ONE_TIME_OVERHEAD, ONE_TIME_SIZE, OneTimeKey, seal_once
from quietfleet.errors import CryptoError

INFO = b"quietfleet deal"


@pytest.fixture
def receiver() -> OneTimeKey:
    return OneTimeKey.generate(lambda size: bytes(range(size)))


def test_open__sealed_to_the_key__gives_it_back(receiver: OneTimeKey) -> None:
    sealed = seal_once(receiver.public_bytes, b"secret", INFO)
    assert len(sealed) == len(b"secret") + ONE_TIME_OVERHEAD
    assert receiver.open(sealed, INFO) == b"secret"


def test_seal__twice__differs(receiver: OneTimeKey) -> None:
    assert seal_once(receiver.public_bytes, b"secret", INFO) != seal_once(receiver.public_bytes, b"secret", INFO)


def test_open__other_key_other_info_or_altered__refused(receiver: OneTimeKey) -> None:
    sealed = seal_once(receiver.public_bytes, b"secret", INFO)
    stranger = OneTimeKey(b"\x01" * ONE_TIME_SIZE)
    altered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for key, data, info in ((stranger, sealed, INFO), (receiver, sealed, b"other"), (receiver, altered, INFO)):
        with pytest.raises(CryptoError, match="sealed to another one-time key"):
            key.open(data, info)


@pytest.mark.parametrize("size", [0, 1, 31, 47])
def test_open__too_short__refused(receiver: OneTimeKey, size: int) -> None:
    with pytest.raises(CryptoError):
        receiver.open(bytes(size), INFO)


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(32), bytes(33)])
def test_seal__to_what_is_no_key__refused(public: bytes) -> None:
    with pytest.raises(CryptoError, match="not a usable one-time public key"):
        seal_once(public, b"secret", INFO)


def test_key__of_another_size__refused() -> None:
    with pytest.raises(CryptoError, match="is 32 bytes, not 31"):
        OneTimeKey(bytes(31))


def test_repr__key__shows_the_public_half_alone(receiver: OneTimeKey) -> None:
    assert bytes(range(4)).hex() not in repr(receiver)
