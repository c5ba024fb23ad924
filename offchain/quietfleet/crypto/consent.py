"""What a device signs so that an owner may enrol it: EIP-712 `Enrol(address owner,uint8 kind,uint256 deadline)`."""

from __future__ import annotations

from typing import Final

from quietfleet.crypto._keccak import keccak256

_DOMAIN_TYPE: Final = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_ENROL_TYPE: Final = keccak256(b"Enrol(address owner,uint8 kind,uint256 deadline)")
_NAME: Final = keccak256(b"Quietfleet")
_VERSION: Final = keccak256(b"1")


def consent_digest(chain_id: int, contract: str, owner: str, kind: int, deadline: int) -> bytes:
    """Return the 32-byte digest to sign; addresses are 0x hex, `deadline` Unix seconds.

    Bound to one chain, contract, owner and kind, so a signature enrols the device nowhere else and for nobody else.
    """
    domain = keccak256(_DOMAIN_TYPE + _NAME + _VERSION + _word(chain_id) + _word(int(contract, 16)))
    enrol = keccak256(_ENROL_TYPE + _word(int(owner, 16)) + _word(kind) + _word(deadline))
    return keccak256(b"\x19\x01" + domain + enrol)


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")
