"""What is inside an envelope: Whisper v6's payload, which is also 26/WAKU2-PAYLOAD version 1.

plaintext = flags (1) ‖ payload length, n bytes little-endian ‖ payload ‖ padding ‖ [signature (65)]
flags: bits 0-1 are n, bit 2 says signed. The signature is over Keccak-256 of all before it.
Sealed by AES-256-GCM under a shared key, or by ECIES to a public key.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from quietfleet.crypto import (
    SIGNATURE_SIZE,
    PrivateKey,
    PublicKey,
    ecies_open,
    ecies_seal,
    keccak256,
    open_sealed,
    recover,
    seal,
)
from quietfleet.errors import CryptoError, PayloadError

MAX_PAYLOAD: Final = (1 << 24) - 1  # a length of four bytes would set the flag that says signed
_BLOCK: Final = 256
_SIZE_MASK: Final = 0b011
_SIGNED: Final = 0b100
_PASSWORD_ROUNDS: Final = 65356  # geth's number, typing error and all
_PASSWORD_KEY: Final = 32


@dataclass(frozen=True, slots=True)
class Opened:
    """A message's content; `signer` is the key that provably wrote it, if it is signed."""

    payload: bytes
    signer: PublicKey | None
    padding_len: int


def seal_symmetric(
    key: bytes,
    payload: bytes,
    *,
    signer: PrivateKey | None = None,
    pad_to: int | None = None,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> bytes:
    """Return envelope data under a shared 32-byte key, 28 bytes longer than its plaintext.

    The plaintext is padded to the next multiple of 256 bytes as geth does, or to exactly `pad_to`.
    """
    return seal(key, write_plaintext(payload, signer=signer, pad_to=pad_to, random=random), random=random)


def seal_asymmetric(
    public: PublicKey,
    payload: bytes,
    *,
    signer: PrivateKey | None = None,
    pad_to: int | None = None,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> bytes:
    """Return envelope data to a public key, 113 bytes longer than its plaintext; padded as in `seal_symmetric`."""
    return ecies_seal(public, write_plaintext(payload, signer=signer, pad_to=pad_to, random=random), random)


def open_symmetric(key: bytes, data: bytes) -> Opened:
    """Open envelope data under a shared key; CryptoError if it is under another, PayloadError if it makes no sense."""
    return read_plaintext(open_sealed(key, data))


def open_asymmetric(private: PrivateKey, data: bytes) -> Opened:
    """Open envelope data to this key; CryptoError if it is to another, PayloadError if it makes no sense."""
    return read_plaintext(ecies_open(private, data))


def room(pad_to: int, *, signed: bool) -> int:
    """Return the longest payload that fits a plaintext of `pad_to` bytes; -1 if not even an empty one does."""
    left = pad_to - 1 - SIGNATURE_SIZE * signed
    return next((left - n for n in (1, 2, 3) if 0 <= left - n < 1 << 8 * n), -1)


def write_plaintext(
    payload: bytes,
    *,
    signer: PrivateKey | None = None,
    pad_to: int | None = None,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> bytes:
    """Frame, pad and sign a payload; PayloadError if it is too long, or longer than `pad_to` allows."""
    if len(payload) > MAX_PAYLOAD:
        raise PayloadError(f"{len(payload)} bytes are more than {MAX_PAYLOAD}")
    size_bytes = max(1, (len(payload).bit_length() + 7) // 8)
    flags = size_bytes | (_SIGNED if signer else 0)
    framed = bytes((flags,)) + len(payload).to_bytes(size_bytes, "little") + payload
    framed += random(_padding(len(framed) + (SIGNATURE_SIZE if signer else 0), pad_to))
    return framed + signer.sign(keccak256(framed)) if signer else framed


def read_plaintext(plaintext: bytes) -> Opened:
    """Read a plaintext and check its signature; PayloadError if it contradicts itself (unknown flags are ignored)."""
    if not plaintext:
        raise PayloadError("empty")
    signed, end = plaintext[0] & _SIGNED, len(plaintext)
    if signed:
        end -= SIGNATURE_SIZE
    begin = 1 + (plaintext[0] & _SIZE_MASK)
    stop = begin + int.from_bytes(plaintext[1:begin], "little")
    if stop > end:  # also where the length itself, or a signature, is cut short
        raise PayloadError("the payload is shorter than it says")
    return Opened(plaintext[begin:stop], _signer(plaintext, end) if signed else None, end - stop)


def password_key(password: str) -> bytes:
    """Return the 32-byte key geth derives from a password, without salt: for interoperation, not for protection."""
    return PBKDF2HMAC(SHA256(), _PASSWORD_KEY, b"", _PASSWORD_ROUNDS).derive(password.encode())


def _padding(length: int, pad_to: int | None) -> int:
    """Return how many bytes of padding follow; like geth, a whole block after what is already aligned."""
    if pad_to is None:
        return _BLOCK - length % _BLOCK
    if length > pad_to:
        raise PayloadError(f"{length} bytes do not fit in {pad_to}")
    return pad_to - length


def _signer(plaintext: bytes, end: int) -> PublicKey:
    try:
        return recover(keccak256(plaintext[:end]), plaintext[end:])
    except CryptoError as error:
        raise PayloadError("the signature is not genuine") from error
