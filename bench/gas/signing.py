"""What devices and recipients sign for the registry (EIP-712), in the forms its functions take."""

from __future__ import annotations

from typing import Any, Final

from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount

FAR: Final = 4_000_000_000
"""A deadline of as many bytes as real ones have."""

_FIELDS: Final = {
    "Enrol": (("owner", "address"), ("kind", "uint8"), ("deadline", "uint256")),
    "RotateKey": (("worker", "address"), ("owner", "address"), ("epoch", "uint16"), ("deadline", "uint256")),
    "TakeOver": (("worker", "address"), ("from", "address"), ("sequence", "uint32"), ("deadline", "uint256")),
}


class Signer:
    """Signs for one deployment."""

    def __init__(self, chain_id: int, service: str) -> None:
        self._domain = {"name": "Quietfleet", "version": "1", "chainId": chain_id, "verifyingContract": service}

    def enrolment(self, device: LocalAccount, owner: str, kind: int) -> tuple[Any, ...]:
        """Return an `Enrolment` the device consents to."""
        proof = self._compact(device, "Enrol", owner=owner, kind=kind, deadline=FAR)
        return (*point(device), kind, FAR, *proof)

    def new_key(self, key: LocalAccount, worker: str, owner: str, epoch: int) -> tuple[Any, ...]:
        """Return a `NewKey` that proves its possession."""
        proof = self._compact(key, "RotateKey", worker=worker, owner=owner, epoch=epoch, deadline=FAR)
        return (worker, *point(key), FAR, *proof)

    def take_over(self, recipient: LocalAccount, worker: str, owner: str, sequence: int) -> bytes:
        """Return the recipient's signature of 65 bytes."""
        message = {"worker": worker, "from": owner, "sequence": sequence, "deadline": FAR}
        return bytes(self._sign(recipient, "TakeOver", message).signature)

    def _compact(self, key: LocalAccount, action: str, **message: Any) -> tuple[bytes, bytes]:
        signed = self._sign(key, action, message)
        vs = signed.s | (signed.v - 27) << 255
        return signed.r.to_bytes(32, "big"), vs.to_bytes(32, "big")

    def _sign(self, key: LocalAccount, action: str, message: dict[str, Any]) -> Any:
        types = {action: [{"name": name, "type": kind} for name, kind in _FIELDS[action]]}
        return key.sign_message(encode_typed_data(self._domain, types, message))


def point(key: LocalAccount) -> tuple[bytes, bytes]:
    """Return the two coordinates of a public key."""
    public = key._key_obj.public_key.to_bytes()  # noqa: SLF001 - eth-account shows the address only
    return public[:32], public[32:]
