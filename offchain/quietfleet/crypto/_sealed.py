"""Symmetric sealing as Whisper v6 writes it: AES-256-GCM, ciphertext ‖ tag (16) ‖ iv (12)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from quietfleet.errors import CryptoError

_IV_SIZE: Final = 12
_TAG_SIZE: Final = 16
SEAL_OVERHEAD: Final = _IV_SIZE + _TAG_SIZE


def seal(
    key: bytes,
    plaintext: bytes,
    *,
    associated: bytes = b"",
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> bytes:
    """Seal `plaintext` under a 32-byte key, 28 bytes longer; `associated` is authenticated but not sent."""
    iv = random(_IV_SIZE)
    return _cipher(key).encrypt(iv, plaintext, associated) + iv


def open_sealed(key: bytes, data: bytes, *, associated: bytes = b"") -> bytes:
    """Open what `seal` made; CryptoError for another key, other associated data or any change."""
    if len(data) < SEAL_OVERHEAD:
        raise CryptoError("too short for a sealed text")
    try:
        return _cipher(key).decrypt(data[-_IV_SIZE:], data[:-_IV_SIZE], associated)
    except InvalidTag as error:
        raise CryptoError("sealed under another key, or altered") from error


def _cipher(key: bytes) -> AESGCM:
    if len(key) != 32:  # noqa: PLR2004 -- AES-256; AESGCM itself would take shorter keys
        raise CryptoError("a sealing key is 32 bytes")
    return AESGCM(key)
