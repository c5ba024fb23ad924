"""Hybrid post-quantum sealing to a key: single-shot HPKE (RFC 9180) with ML-KEM-768 and X25519 together.

Whoever records today and breaks one of the two later still learns nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from quietfleet.errors import CryptoError

_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_SEED_SIZE: Final = 64  # FIPS 203's d‖z
_X25519_SIZE: Final = 32
_MLKEM_PUBLIC_SIZE: Final = 1184
HPKE_PRIVATE_SIZE: Final = _SEED_SIZE + _X25519_SIZE
HPKE_PUBLIC_SIZE: Final = _MLKEM_PUBLIC_SIZE + _X25519_SIZE
HPKE_OVERHEAD: Final = 1136


class HpkePrivateKey:
    """A hybrid receiving key; stored as the ML-KEM seed (64 bytes) ‖ the X25519 secret (32 bytes)."""

    __slots__ = ("_key", "_secret", "public_bytes")

    public_bytes: bytes

    def __init__(self, secret: bytes) -> None:
        if len(secret) != HPKE_PRIVATE_SIZE:
            raise CryptoError(f"an HPKE private key is {HPKE_PRIVATE_SIZE} bytes, not {len(secret)}")
        mlkem = MLKEM768PrivateKey.from_seed_bytes(secret[:_SEED_SIZE])
        x25519 = X25519PrivateKey.from_private_bytes(secret[_SEED_SIZE:])
        self._secret = bytes(secret)
        self._key = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public_bytes = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, random: Callable[[int], bytes] = secrets.token_bytes) -> Self:
        """Draw a fresh key: both halves are uniform strings, so 96 random bytes are one."""
        return cls(random(HPKE_PRIVATE_SIZE))

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """Read back what `to_bytes` gave; CryptoError for any other size."""
        return cls(secret)

    def to_bytes(self) -> bytes:
        """Return 96 secret bytes, for sealed storage."""
        return self._secret

    def __repr__(self) -> str:
        return f"HpkePrivateKey(of {self.public_bytes[:4].hex()}…)"


def hpke_seal(public_bytes: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Seal `plaintext` to 1,216 public bytes, 1,136 longer; only the same `info` opens it.

    The library draws the randomness itself. CryptoError if the bytes are no key.
    """
    try:
        return _SUITE.encrypt(plaintext, _public(public_bytes), info=info)
    except ValueError as error:
        raise CryptoError("not a usable HPKE public key") from error


def hpke_open(private: HpkePrivateKey, ciphertext: bytes, info: bytes) -> bytes:
    """Open what was sealed to `private` under `info`; CryptoError otherwise."""
    try:
        return _SUITE.decrypt(ciphertext, private._key, info=info)  # noqa: SLF001 -- it never leaves this module
    except (InvalidTag, ValueError) as error:
        raise CryptoError("sealed to another HPKE key or for another purpose, or altered") from error


def _public(public_bytes: bytes) -> MLKEM768X25519PublicKey:
    if len(public_bytes) != HPKE_PUBLIC_SIZE:
        raise CryptoError(f"an HPKE public key is {HPKE_PUBLIC_SIZE} bytes, not {len(public_bytes)}")
    return MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(public_bytes[:_MLKEM_PUBLIC_SIZE]),
        X25519PublicKey.from_public_bytes(public_bytes[_MLKEM_PUBLIC_SIZE:]),
    )
