"""A device's consent to be enrolled, as it travels from the device to its owner: JSON with 0x-hex fields."""

from __future__ import annotations

from typing import Any, Self

import msgspec

from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey, PublicKey, recover
from quietfleet.crypto.consent import consent_digest
from quietfleet.crypto.eip712 import compact, ethereum_signature
from quietfleet.errors import ConsentInvalid, CryptoError


class _Wire(msgspec.Struct):
    public_key: str
    kind: Kind
    owner: str
    deadline: int
    signature: str


class Consent(msgspec.Struct, frozen=True):
    """What the device signed: 64-byte `public_key`, `deadline` in Unix seconds, 65-byte signature with v 27 or 28."""

    public_key: bytes
    kind: Kind
    owner: str
    deadline: int
    signature: bytes

    @classmethod
    def sign(cls, key: PrivateKey, chain_id: int, contract: str, *, owner: str, kind: Kind, deadline: int) -> Self:
        """Sign with the device's messaging key, for this owner, kind, chain and contract alone."""
        signature = key.sign(consent_digest(chain_id, contract, owner, kind, deadline))
        return cls(key.public.to_bytes(), kind, owner, deadline, ethereum_signature(signature))

    @property
    def id(self) -> str:
        """The worker id this consent enrols; ConsentInvalid if the key is none."""
        try:
            return PublicKey.from_bytes(self.public_key).id
        except CryptoError as error:
            raise ConsentInvalid(str(error)) from error

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The contract's `Enrolment`."""
        return (*_halves(self.public_key), int(self.kind), self.deadline, *_halves(compact(self.signature)))

    def check(self, chain_id: int, contract: str, now: float) -> None:
        """Raise ConsentInvalid if the contract would refuse it: another signer, or past its deadline."""
        try:
            digest = consent_digest(chain_id, contract, self.owner, self.kind, self.deadline)
            signer = recover(digest, self.signature).id
        except (CryptoError, ValueError, OverflowError) as error:
            raise ConsentInvalid(str(error)) from error
        if signer != self.id:
            raise ConsentInvalid(f"signed by {signer}, not by {self.id}")
        if now > self.deadline:
            raise ConsentInvalid(f"its deadline {self.deadline} has passed")

    def to_json(self) -> bytes:
        """Write the consent as a file an owner can be handed."""
        return msgspec.json.encode(
            _Wire(_hex(self.public_key), self.kind, self.owner, self.deadline, _hex(self.signature))
        )

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read what `to_json` wrote; ConsentInvalid if it is anything else."""
        try:
            wire = msgspec.json.decode(text, type=_Wire)
            return cls(_bytes(wire.public_key), wire.kind, wire.owner, wire.deadline, _bytes(wire.signature))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ConsentInvalid(str(error)) from error


def _halves(value: bytes) -> tuple[bytes, bytes]:
    return value[:32], value[32:]


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
