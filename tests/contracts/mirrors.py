"""The contracts' numbers as Python names, and a device as the contracts see it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_utils import keccak

ZERO = "0x" + "00" * 20
FEE = 10**15
FAR = 4_000_000_000  # a deadline no test lives to see
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class Kind(IntEnum):
    SENSOR = 1
    PROCESSOR = 2
    GATEWAY = 3
    RELAY = 4
    ORACLE = 5


class Flag(IntFlag):
    ACTIVE = 1
    SUSPENDED = 2
    PENDING = 4
    RETIRED = 8


class State(IntEnum):
    PUBLISHED = 1
    REVOKED = 2


@dataclass(frozen=True)
class Device:
    """A device's messaging key; it holds no ether."""

    key: LocalAccount

    @classmethod
    def numbered(cls, number: int) -> Device:
        return cls(Account.from_key(keccak(text=f"device {number}")))

    @classmethod
    def of(cls, account: Any) -> Device:
        """A device whose key is one of Ape's test accounts."""
        return cls(Account.from_key(account.private_key))

    @property
    def id(self) -> str:
        return self.key.address

    @property
    def point(self) -> tuple[bytes, bytes]:
        public = self.key._key_obj.public_key.to_bytes()
        return public[:32], public[32:]

    def consent(self, service: Any, owner: Any, kind: int, deadline: int = FAR, **domain: Any) -> bytes:
        """The EIP-712 signature with which the device agrees to its owner; `domain` overrides fields of the domain."""
        genuine = {
            "name": "Quietfleet",
            "version": "1",
            "chainId": service.provider.chain_id,
            "verifyingContract": service.address,
        }
        fields = [("owner", "address"), ("kind", "uint8"), ("deadline", "uint256")]
        message = encode_typed_data(
            domain_data=genuine | domain,
            message_types={"Enrol": [{"name": name, "type": kind_} for name, kind_ in fields]},
            message_data={"owner": str(owner), "kind": kind, "deadline": deadline},
        )
        return bytes(self.key.sign_message(message).signature)
