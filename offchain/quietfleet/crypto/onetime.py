"""Sealing to a one-time key: single-shot HPKE (RFC 9180) with X25519 alone, small enough to hand out by the dozen.

It keeps out whoever carries the message, at the time. Against those who record and wait, the session around it is
hybrid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from quietfleet.errors import CryptoError

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
ONE_TIME_SIZE: Final = 32  # bytes, of either half
ONE_TIME_OVERHEAD: Final = 48


class OneTimeKey:
    """A private key for one exchange; it lives in memory only, so nothing gives its bytes back."""

    __slots__ = ("_key", "public_bytes")

    public_bytes: bytes

    def __init__(self, secret: bytes) -> None:
        if len(secret) != ONE_TIME_SIZE:
            raise CryptoError(f"a one-time key is {ONE_TIME_SIZE} bytes, not {len(secret)}")
        self._key = X25519PrivateKey.from_private_bytes(secret)
        self.public_bytes = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> Self:
        """Draw a fresh key."""
        return cls(random(ONE_TIME_SIZE))

    def open(self, ciphertext: bytes, info: bytes) -> bytes:
        """Open what was sealed to this key under `info`; CryptoError otherwise."""
        try:
            return _SUITE.decrypt(ciphertext, self._key, info=info)
        except (InvalidTag, ValueError) as error:
            raise CryptoError("sealed to another one-time key or for another purpose, or altered") from error

    def __repr__(self) -> str:
        return f"OneTimeKey(of {self.public_bytes[:4].hex()}…)"


def seal_once(public_bytes: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Seal `plaintext` to 32 public bytes, 48 longer; only the same `info` opens it.

    The library draws the randomness itself. CryptoError if the bytes are no key.
    """
    try:
        return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public_bytes), info=info)
    except ValueError as error:
        raise CryptoError("not a usable one-time public key") from error
