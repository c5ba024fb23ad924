"""The contracts' numbers as Python names, and a device as the contracts see it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_utils import keccak

ZERO = "0x" + "00" * 20
DAY = 86_400
FEE = 10**15
FEE_CAP = 10 * FEE
FAR = 4_000_000_000  # a deadline no test lives to see
MAX_BATCH = 400
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

STRUCTS = {
    "Enrol": "address owner,uint8 kind,uint256 deadline",
    "RotateKey": "address worker,address owner,uint16 epoch,uint256 deadline",
    "TakeOver": "address worker,address from,uint32 sequence,uint256 deadline",
    "Configuration": (
        "uint32 version,uint40 activeFrom,uint32 grace,uint48 minPow,uint32 maxTtl,uint32 maxSize,"
        "address oracle,address gateway,bytes32 epochKeyCommitment,bytes32 oracleCardDigest,"
        "bytes32 gatewayCardDigest,uint48 previousBlock"
    ),
}


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


class Right(IntFlag):
    OFF = 1
    ON = 2
    KEYS = 4


class State(IntEnum):
    PROPOSED = 1
    APPROVED = 2
    ROLLING = 3
    PAUSED = 4
    COMPLETED = 5
    REVOKED = 6


PARTNERS = {
    (Kind.SENSOR, Kind.PROCESSOR),
    (Kind.PROCESSOR, Kind.GATEWAY),
    (Kind.GATEWAY, Kind.GATEWAY),
    (Kind.SENSOR, Kind.ORACLE),
    (Kind.PROCESSOR, Kind.ORACLE),
    (Kind.GATEWAY, Kind.ORACLE),
}


def meet(one: int, other: int) -> bool:
    """Whether workers of these kinds work with each other."""
    return (one, other) in PARTNERS or (other, one) in PARTNERS


def typed(service: Any, struct: str, *values: Any, **domain: Any) -> SignableMessage:
    """An EIP-712 message for the service; `domain` overrides fields of its domain."""
    genuine = {
        "name": "Quietfleet",
        "version": "1",
        "chainId": service.provider.chain_id,
        "verifyingContract": service.address,
    }
    fields = [dict(zip(("type", "name"), field.split(), strict=True)) for field in STRUCTS[struct].split(",")]
    plain = [value if isinstance(value, int | bytes) else str(value) for value in values]
    data = dict(zip((field["name"] for field in fields), plain, strict=True))
    return encode_typed_data(domain_data=genuine | domain, message_types={struct: fields}, message_data=data)


def compact(signature: bytes) -> tuple[bytes, bytes]:
    """A signature r, s, v as the two words of ERC-2098."""
    parity = signature[64] - 27
    return signature[:32], bytes([signature[32] | parity << 7]) + signature[33:64]


def take_over(recipient: Any, service: Any, worker: str, giver: Any, sequence: int, deadline: int = FAR) -> bytes:
    """The signature with which a recipient (one of Ape's test accounts) agrees to own a worker."""
    message = typed(service, "TakeOver", worker, giver, sequence, deadline)
    return bytes(Account.from_key(recipient.private_key).sign_message(message).signature)


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
        """The signature r, s, v with which the device agrees to its owner."""
        message = typed(service, "Enrol", owner, int(kind), deadline, **domain)
        return bytes(self.key.sign_message(message).signature)

    def enrolment(
        self, service: Any, owner: Any, kind: int = Kind.SENSOR, deadline: int = FAR, **domain: Any
    ) -> tuple[Any, ...]:
        """What `enrol` takes."""
        signature = self.consent(service, owner, kind, deadline, **domain)
        return (*self.point, int(kind), deadline, *compact(signature))

    def new_key(
        self, service: Any, worker: str, owner: Any, epoch: int, deadline: int = FAR, **domain: Any
    ) -> tuple[Any, ...]:
        """What `rotateKey` takes, to make this device's key the worker's."""
        message = typed(service, "RotateKey", worker, owner, epoch, deadline, **domain)
        signature = bytes(self.key.sign_message(message).signature)
        return (worker, *self.point, deadline, *compact(signature))


def malleated(signed: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same signature with s mirrored to the upper half of the curve's order."""
    *rest, vs = signed
    low = int.from_bytes(vs, "big") & (1 << 255) - 1
    return (*rest, (CURVE_ORDER - low).to_bytes(32, "big"))


def other_parity(signed: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same signature with its parity bit turned over."""
    *rest, vs = signed
    return (*rest, bytes([vs[0] ^ 0x80]) + vs[1:])
