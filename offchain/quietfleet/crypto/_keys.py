"""secp256k1 identities: the keys that sign, receive and name a worker."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final, Self

import coincurve
from coincurve._libsecp256k1 import ffi, lib

from quietfleet.crypto._keccak import keccak256
from quietfleet.errors import CryptoError

SIGNATURE_SIZE: Final = 65
PUBLIC_KEY_SIZE: Final = 64
SECRET_SIZE: Final = 32
_DIGEST_SIZE: Final = 32
_UNCOMPRESSED: Final = b"\x04"
_HALF_ORDER: Final = (coincurve.utils.GROUP_ORDER_INT // 2).to_bytes(32, "big")
_RECOVERY: Final = {0: b"\x00", 1: b"\x01", 27: b"\x00", 28: b"\x01"}
_BIT_5: Final = int.from_bytes(b"\x20" * 40, "big")  # of each of forty digits
_DRAWS: Final = 8  # a fair source fails one draw in 2^128


class PublicKey:
    """A point on secp256k1 as 64 bytes x‖y; equal and hashable by value."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != PUBLIC_KEY_SIZE:
            raise CryptoError(f"a public key is {PUBLIC_KEY_SIZE} bytes x‖y, not {len(raw)}")
        self._raw = bytes(raw)
        _point(self)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read 64 bytes x‖y; CryptoError if they are no point on the curve."""
        return cls(raw)

    @property
    def address(self) -> bytes:
        """The 20-byte Ethereum address: the last 20 bytes of the key's Keccak-256."""
        return keccak256(self._raw)[12:]

    @property
    def id(self) -> str:
        """The worker id this key proves: its address in EIP-55 checksummed hex."""
        return checksum_address(self.address)

    def to_bytes(self) -> bytes:
        """Return 64 bytes x‖y."""
        return self._raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)

    def __repr__(self) -> str:
        return f"PublicKey({self.id})"


class PrivateKey:
    """A secp256k1 secret; it prints as its public id."""

    __slots__ = ("_key", "public")

    public: PublicKey

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_SIZE:
            raise CryptoError(f"a private key is {SECRET_SIZE} bytes, not {len(secret)}")
        try:
            self._key = coincurve.PrivateKey(secret)
        except ValueError:
            raise CryptoError("the private key is zero or above the group's order") from None
        self.public = _public(self._key.public_key)

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """Read 32 bytes big-endian; CryptoError if they are outside the group."""
        return cls(secret)

    @classmethod
    def generate(cls, random: Callable[[int], bytes] = secrets.token_bytes) -> Self:
        """Draw a fresh key from `random`; CryptoError if it keeps giving values outside the group."""
        for _ in range(_DRAWS):
            try:
                return cls(random(SECRET_SIZE))
            except CryptoError:
                continue
        raise CryptoError("the source of randomness gives no valid private key")

    def sign(self, digest: bytes) -> bytes:
        """Return r‖s‖v over a 32-byte digest: RFC 6979 nonce, low s, v 0 or 1."""
        try:
            return bytes(self._key.sign_recoverable(digest, hasher=None))
        except ValueError as error:
            raise CryptoError(str(error)) from error

    def ecdh(self, public: PublicKey) -> bytes:
        """Return the 32-byte X coordinate shared with `public`, in constant time."""
        shared = ffi.new("unsigned char[32]")
        point = _point(public).public_key
        lib.secp256k1_ecdh(self._key.context.ctx, shared, point, self._key.secret, _copy_x, ffi.NULL)
        return bytes(ffi.buffer(shared))

    def to_bytes(self) -> bytes:
        """Return the 32-byte secret, for a keystore."""
        return bytes(self._key.secret)

    def __repr__(self) -> str:
        return f"PrivateKey(of {self.public.id})"


def _point(public: PublicKey) -> coincurve.PublicKey:
    try:
        return coincurve.PublicKey(_UNCOMPRESSED + public.to_bytes())
    except ValueError as error:
        raise CryptoError("the public key is not a point on secp256k1") from error


def _public(point: coincurve.PublicKey) -> PublicKey:
    return PublicKey(point.format(compressed=False)[1:])


@ffi.callback("int(unsigned char *, const unsigned char *, const unsigned char *, void *)")  # type: ignore[untyped-decorator]
def _copy_x(output: Any, x: Any, _y: Any, _data: Any) -> int:
    """Stand in for libsecp256k1's hash of the shared point: ECIES takes the bare X coordinate."""
    ffi.memmove(output, x, 32)
    return 1


def recover(digest: bytes, signature: bytes) -> PublicKey:
    """Return the key that signed `digest` (32 bytes) with r‖s‖v, v 0/1 or 27/28; CryptoError if none, or if s is high.

    One signature, one encoding: a high s is the same signature rewritten by a stranger (EIP-2).
    """
    if len(signature) != SIGNATURE_SIZE or len(digest) != _DIGEST_SIZE:
        raise CryptoError(f"a signature is {SIGNATURE_SIZE} bytes over a digest of {_DIGEST_SIZE}")
    if signature[64] not in _RECOVERY:
        raise CryptoError("the signature's last byte is none of 0, 1, 27, 28")
    if signature[32:64] > _HALF_ORDER:
        raise CryptoError("the signature's s is above half the group's order")
    try:
        plain = bytes(signature[:64]) + _RECOVERY[signature[64]]
        return _public(coincurve.PublicKey.from_signature_and_message(plain, digest, hasher=None))
    except ValueError as error:
        raise CryptoError("no key made this signature") from error


def checksum_address(address: bytes) -> str:
    """Write a 20-byte address as EIP-55 mixed-case hex with 0x.

    All digits at once, as one number of a byte each: a letter has bit 6, and where its place in the hash has a digit
    from 8 on, which is ASCII with bit 3 or bit 6, it loses bit 5, which is what tells its cases apart.
    """
    plain = address.hex().encode()
    digits = int.from_bytes(plain, "big")
    marks = int.from_bytes(keccak256(plain).hex()[: len(plain)].encode(), "big")
    raised = (digits >> 1) & ((marks << 2) | (marks >> 1)) & _BIT_5
    return "0x" + (digits ^ raised).to_bytes(len(plain), "big").decode()
