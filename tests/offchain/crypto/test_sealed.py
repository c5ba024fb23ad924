from __future__ import annotations

import pytest
from Crypto.Cipher import AES
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.crypto import SEAL_OVERHEAD, open_sealed, seal
from quietfleet.errors import CryptoError

KEY = bytes(range(32))


@given(st.binary(max_size=300), st.binary(max_size=20))
def test_open__anything_sealed__gives_it_back(plaintext: bytes, associated: bytes) -> None:
    data = seal(KEY, plaintext, associated=associated)
    assert len(data) == len(plaintext) + SEAL_OVERHEAD
    assert open_sealed(KEY, data, associated=associated) == plaintext


def test_seal__known_iv__is_ciphertext_tag_iv_of_an_independent_aes_gcm() -> None:
    iv = b"\x09" * 12
    cipher = AES.new(KEY, AES.MODE_GCM, nonce=iv)
    cipher.update(b"aad")
    expected = b"".join(cipher.encrypt_and_digest(b"plain")) + iv
    assert seal(KEY, b"plain", associated=b"aad", random=lambda size: b"\x09" * size) == expected


def test_open__another_key__is_refused() -> None:
    with pytest.raises(CryptoError):
        open_sealed(b"\x00" * 32, seal(KEY, b"secret"))


def test_open__other_associated_data__is_refused() -> None:
    with pytest.raises(CryptoError):
        open_sealed(KEY, seal(KEY, b"secret", associated=b"a"))


@pytest.mark.parametrize("position", [0, 6, -13, -1])
def test_open__one_bit_changed__is_refused(position: int) -> None:
    data = bytearray(seal(KEY, b"secret"))
    data[position] ^= 1
    with pytest.raises(CryptoError):
        open_sealed(KEY, bytes(data))


@given(st.binary(max_size=64))
def test_open__noise__is_refused(noise: bytes) -> None:
    with pytest.raises(CryptoError):
        open_sealed(KEY, noise)


@pytest.mark.parametrize("size", [0, 16, 24, 33])
def test_seal__key_of_another_size__is_refused(size: int) -> None:
    with pytest.raises(CryptoError):
        seal(b"\x01" * size, b"")
    with pytest.raises(CryptoError):
        open_sealed(b"\x01" * size, b"\x00" * 40)
