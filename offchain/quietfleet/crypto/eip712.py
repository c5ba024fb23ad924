"""What keys sign for the fleet's contract: EIP-712 digests, bound to one chain and contract, and compact signatures."""

from __future__ import annotations

from typing import Final

from quietfleet.crypto._keccak import keccak256
from quietfleet.crypto._keys import SIGNATURE_SIZE
from quietfleet.errors import CryptoError

_DOMAIN_TYPE: Final = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_NAME: Final = keccak256(b"Quietfleet")
_VERSION: Final = keccak256(b"1")


def typed_digest(chain_id: int, contract: str, kind: str, *values: int | str | bytes) -> bytes:
    """Return the 32-byte digest of a struct of type `kind`, such as `Enrol(address owner,uint8 kind,uint256 deadline)`.

    Every field takes one word: numbers, addresses (0x hex) and 32 bytes; fields of variable size are not known here.
    """
    domain = keccak256(_DOMAIN_TYPE + _NAME + _VERSION + word(chain_id) + word(contract))
    content = keccak256(keccak256(kind.encode()) + b"".join(word(value) for value in values))
    return keccak256(b"\x19\x01" + domain + content)


def word(value: int | str | bytes) -> bytes:
    """Write a number, an address (0x hex) or 32 bytes as the ABI's word."""
    if isinstance(value, bytes):
        if len(value) != 32:  # noqa: PLR2004 - a word
            raise CryptoError(f"a word is 32 bytes, not {len(value)}")
        return value
    return (int(value, 16) if isinstance(value, str) else value).to_bytes(32, "big")


def ethereum_signature(signature: bytes) -> bytes:
    """Write r‖s‖v with v 27 or 28, as Ethereum's tools and contracts do."""
    return signature[:64] + bytes([27 + _parity(signature)])


def compact(signature: bytes) -> bytes:
    """Write r‖s‖v as the 64 bytes r‖vs: the parity goes where s, which is low, has no bit (ERC-2098)."""
    s = int.from_bytes(signature[32:64], "big")
    return signature[:32] + (s | _parity(signature) << 255).to_bytes(32, "big")


def _parity(signature: bytes) -> int:
    if len(signature) != SIGNATURE_SIZE:
        raise CryptoError(f"a signature is {SIGNATURE_SIZE} bytes, not {len(signature)}")
    return signature[64] % 27
