"""The public proof of a worker's next messaging key, as it travels from the worker to its owner: JSON with 0x-hex."""

from __future__ import annotations

from typing import Any, Self

import msgspec

from quietfleet.crypto import PrivateKey, PublicKey, recover
from quietfleet.crypto.consent import rotate_key_digest
from quietfleet.crypto.eip712 import compact, ethereum_signature
from quietfleet.errors import CryptoError, ProofInvalid

_HALF = 32


class KeyProof(msgspec.Struct, frozen=True):
    """What the new key signed: to be this worker's in `epoch`, under this owner, until `deadline` (Unix seconds).

    `public_key` is 64 bytes x‖y, `signature` 65 bytes with v 27 or 28, both in hex.
    """

    worker: str
    owner: str
    epoch: int
    public_key: str
    deadline: int
    signature: str

    @classmethod
    def sign(
        cls, key: PrivateKey, chain_id: int, contract: str, *, worker: str, owner: str, epoch: int, deadline: int
    ) -> Self:
        """Sign with the new key, for this worker, owner, epoch, chain and contract alone."""
        digest = rotate_key_digest(chain_id, contract, worker, owner, epoch, deadline)
        signature = ethereum_signature(key.sign(digest))
        return cls(worker, owner, epoch, "0x" + key.public.to_bytes().hex(), deadline, "0x" + signature.hex())

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The contract's `NewKey`."""
        key, signature = _bytes(self.public_key), compact(_bytes(self.signature))
        return self.worker, key[:_HALF], key[_HALF:], self.deadline, signature[:_HALF], signature[_HALF:]

    def check(self, chain_id: int, contract: str, now: float, *, owner: str, epoch: int) -> None:
        """Raise ProofInvalid if the contract would refuse it of a worker whose owner and next epoch are these."""
        if self.epoch != epoch:
            raise ProofInvalid(f"it is for epoch {self.epoch} of {self.worker}, the next one is {epoch}")
        if self.owner.lower() != owner.lower():
            raise ProofInvalid(f"it is for the owner {self.owner}, {self.worker} belongs to {owner}")
        if now > self.deadline:
            raise ProofInvalid(f"its deadline {self.deadline} has passed")
        try:
            digest = rotate_key_digest(chain_id, contract, self.worker, self.owner, self.epoch, self.deadline)
            signer = recover(digest, _bytes(self.signature)).id
            key = PublicKey.from_bytes(_bytes(self.public_key)).id
        except (CryptoError, ValueError, OverflowError) as error:
            raise ProofInvalid(str(error)) from error
        if signer != key:
            raise ProofInvalid(f"signed by {signer}, not by {key}")

    def to_json(self) -> bytes:
        """Write the proof as a file an owner can be handed."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read what `to_json` wrote; ProofInvalid if it is anything else."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ProofInvalid(str(error)) from error


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
