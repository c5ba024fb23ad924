"""What both sides of a link hold when their handshake is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from quietfleet.crypto import RunningKeccak, keccak256, running_keccak

_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Agreed:
    """Both sides' part in a handshake: what was said, as it went over the wire, and the ephemeral keys' ECDH value."""

    auth: bytes
    ack: bytes
    initiator_nonce: bytes
    recipient_nonce: bytes
    ephemeral: bytes


@dataclass(frozen=True, slots=True)
class Secrets:
    """The cipher's key, the MACs' key, and the running MAC state of each direction, from our side."""

    aes: bytes
    mac: bytes
    egress: RunningKeccak
    ingress: RunningKeccak

    @classmethod
    def derive(cls, agreed: Agreed, *, initiator: bool) -> Self:
        """Derive the secrets of one side."""
        nonces = keccak256(agreed.recipient_nonce + agreed.initiator_nonce)
        aes = keccak256(agreed.ephemeral + keccak256(agreed.ephemeral + nonces))
        mac = keccak256(agreed.ephemeral + aes)
        outward = running_keccak(xor(mac, agreed.recipient_nonce) + agreed.auth)
        inward = running_keccak(xor(mac, agreed.initiator_nonce) + agreed.ack)
        return cls(aes, mac, outward, inward) if initiator else cls(aes, mac, inward, outward)


def xor(one: bytes, other: bytes) -> bytes:
    """Combine two strings of 32 bytes."""
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(_BLOCK)
