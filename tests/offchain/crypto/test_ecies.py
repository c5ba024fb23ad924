from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.crypto import ECIES_OVERHEAD, PrivateKey, ecies_open, ecies_seal
from quietfleet.errors import CryptoError

RECEIVER = PrivateKey.from_bytes(b"\x01" * 32)


@given(st.binary(max_size=300), st.binary(max_size=4))
def test_open__anything_sealed__gives_it_back(plaintext: bytes, authenticated: bytes) -> None:
    data = ecies_seal(RECEIVER.public, plaintext, authenticated=authenticated)
    assert len(data) == len(plaintext) + ECIES_OVERHEAD
    assert ecies_open(RECEIVER, data, authenticated=authenticated) == plaintext


def test_seal__same_randomness__is_deterministic(device: PrivateKey, repeat: Callable[[int], bytes]) -> None:
    assert ecies_seal(device.public, b"x", repeat) == ecies_seal(device.public, b"x", repeat)
    assert ecies_seal(device.public, b"x") != ecies_seal(device.public, b"x")


def test_open__another_key__is_refused(device: PrivateKey, stranger: PrivateKey) -> None:
    with pytest.raises(CryptoError):
        ecies_open(stranger, ecies_seal(device.public, b"secret"))


def test_open__other_authenticated_data__is_refused(device: PrivateKey) -> None:
    with pytest.raises(CryptoError):
        ecies_open(device, ecies_seal(device.public, b"secret", authenticated=b"a"), authenticated=b"b")


@pytest.mark.parametrize("position", [0, 1, 40, 64, 65, 80, 81, -33, -32, -1])
def test_open__one_bit_changed_anywhere__is_refused(device: PrivateKey, position: int) -> None:
    data = bytearray(ecies_seal(device.public, b"secret"))
    data[position] ^= 1
    with pytest.raises(CryptoError):
        ecies_open(device, bytes(data))


@given(st.binary(max_size=200))
def test_open__noise__is_refused(noise: bytes) -> None:
    with pytest.raises(CryptoError):
        ecies_open(RECEIVER, noise)
    with pytest.raises(CryptoError):
        ecies_open(RECEIVER, RECEIVER.public.to_bytes().rjust(65, b"\x04") + noise)
