from __future__ import annotations

import pytest

from quietfleet.crypto.hpke import (
    HPKE_OVERHEAD,
    HPKE_PRIVATE_SIZE,
    HPKE_PUBLIC_SIZE,
    HpkePrivateKey,
    hpke_open,
    hpke_seal,
)
from quietfleet.errors import CryptoError

INFO = b"transcript"


@pytest.fixture
def receiver() -> HpkePrivateKey:
    return HpkePrivateKey.generate(lambda size: bytes(range(size)))


@pytest.fixture
def stranger() -> HpkePrivateKey:
    return HpkePrivateKey.generate(lambda size: b"\x01" * size)


def test_open__sealed_to_the_key__gives_it_back(receiver: HpkePrivateKey) -> None:
    data = hpke_seal(receiver.public_bytes, b"secret", INFO)
    assert len(data) == len(b"secret") + HPKE_OVERHEAD
    assert hpke_open(receiver, data, INFO) == b"secret"


def test_open__key_stored_and_read_back__still_opens(receiver: HpkePrivateKey) -> None:
    stored = receiver.to_bytes()
    again = HpkePrivateKey.from_bytes(stored)
    assert (len(stored), len(again.public_bytes)) == (HPKE_PRIVATE_SIZE, HPKE_PUBLIC_SIZE) == (96, 1216)
    assert again.public_bytes == receiver.public_bytes
    assert hpke_open(again, hpke_seal(receiver.public_bytes, b"secret", INFO), INFO) == b"secret"


def test_open__another_key__is_refused(receiver: HpkePrivateKey, stranger: HpkePrivateKey) -> None:
    with pytest.raises(CryptoError):
        hpke_open(stranger, hpke_seal(receiver.public_bytes, b"secret", INFO), INFO)


def test_open__other_info__is_refused(receiver: HpkePrivateKey) -> None:
    with pytest.raises(CryptoError):
        hpke_open(receiver, hpke_seal(receiver.public_bytes, b"secret", INFO), b"other")


@pytest.mark.parametrize("position", [0, 1087, 1088, 1119, 1120, -1])
def test_open__one_bit_changed_in_either_half_or_the_text__is_refused(receiver: HpkePrivateKey, position: int) -> None:
    data = bytearray(hpke_seal(receiver.public_bytes, b"secret", INFO))
    data[position] ^= 1
    with pytest.raises(CryptoError):
        hpke_open(receiver, bytes(data), INFO)


@pytest.mark.parametrize("size", [0, 1, HPKE_OVERHEAD - 1, HPKE_OVERHEAD, 2000])
def test_open__noise__is_refused(receiver: HpkePrivateKey, size: int) -> None:
    with pytest.raises(CryptoError):
        hpke_open(receiver, b"\x05" * size, INFO)


@pytest.mark.parametrize("public", [b"", b"\x01" * 1215, b"\xff" * 1216, b"\x00" * 1216])
def test_seal__not_a_key__is_refused(public: bytes) -> None:
    with pytest.raises(CryptoError):
        hpke_seal(public, b"secret", INFO)


def test_private_key__wrong_size__is_refused() -> None:
    with pytest.raises(CryptoError):
        HpkePrivateKey.from_bytes(b"\x01" * 64)


def test_repr__private_key__shows_no_secret(receiver: HpkePrivateKey) -> None:
    assert receiver.to_bytes()[:8].hex() not in repr(receiver)
    assert receiver.to_bytes()[-32:].hex() not in repr(receiver)
