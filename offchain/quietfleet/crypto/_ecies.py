"""ECIES exactly as go-ethereum's: secp256k1, concatenation KDF, AES-128-CTR, HMAC-SHA256.

A sealed text is R (65 bytes, 0x04‖x‖y) ‖ iv (16) ‖ ciphertext ‖ tag (32).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest
from hmac import digest as hmac_digest
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from quietfleet.crypto._keys import PrivateKey, PublicKey
from quietfleet.errors import CryptoError

_UNCOMPRESSED: Final = b"\x04"
_POINT_SIZE: Final = 65
_IV_SIZE: Final = 16
_TAG_SIZE: Final = 32
ECIES_OVERHEAD: Final = _POINT_SIZE + _IV_SIZE + _TAG_SIZE


def ecies_seal(
    public: PublicKey,
    plaintext: bytes,
    random: Callable[[int], bytes] = secrets.token_bytes,
    *,
    authenticated: bytes = b"",
) -> bytes:
    """Seal `plaintext` to `public`, 113 bytes longer; `authenticated` is geth's shared MAC data."""
    ephemeral = PrivateKey.generate(random)
    cipher_key, mac_key = _keys(ephemeral.ecdh(public))
    iv = random(_IV_SIZE)
    body = iv + _ctr(cipher_key, iv, plaintext)
    return _UNCOMPRESSED + ephemeral.public.to_bytes() + body + hmac_digest(mac_key, body + authenticated, "sha256")


def ecies_open(private: PrivateKey, data: bytes, *, authenticated: bytes = b"") -> bytes:
    """Open what was sealed to `private`; CryptoError if it was not, or was altered."""
    if len(data) < ECIES_OVERHEAD or data[:1] != _UNCOMPRESSED:
        raise CryptoError("not an ECIES text")
    cipher_key, mac_key = _keys(private.ecdh(PublicKey.from_bytes(data[1:_POINT_SIZE])))
    body, tag = data[_POINT_SIZE:-_TAG_SIZE], data[-_TAG_SIZE:]
    if not compare_digest(hmac_digest(mac_key, body + authenticated, "sha256"), tag):
        raise CryptoError("sealed to another key, or altered")
    return _ctr(cipher_key, body[:_IV_SIZE], body[_IV_SIZE:])


def _keys(shared: bytes) -> tuple[bytes, bytes]:
    """Return the cipher and MAC keys: one round of NIST SP 800-56's concatenation KDF, the MAC key hashed again."""
    material = sha256(b"\x00\x00\x00\x01" + shared).digest()
    return material[:16], sha256(material[16:]).digest()


def _ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Encrypt or decrypt: counter mode is its own inverse."""
    stream = Cipher(AES(key), CTR(iv)).encryptor()
    return stream.update(data) + stream.finalize()
