"""The package's one key-derivation function, so that no two uses of a secret can meet."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NAMESPACE: Final = b"quietfleet/1/"


def derive(secret: bytes, purpose: str, *context: bytes, length: int = 32) -> bytes:
    """Derive `length` bytes from `secret` by HKDF-SHA256 (RFC 5869) for one purpose and context.

    A different purpose, context, split of the context or length gives unrelated bytes.
    """
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=_info(purpose, context, length)).derive(secret)


def _info(purpose: str, context: tuple[bytes, ...], length: int) -> bytes:
    label = _NAMESPACE + purpose.encode()
    return b"".join(len(part).to_bytes(4, "big") + part for part in (label, *context)) + length.to_bytes(4, "big")
