"""Releases as the contract takes them, and a hand that moves one on from state to state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_abi import encode
from eth_utils import keccak
from mirrors import FAR, State

CHANNEL = b"air quality".ljust(32, b"\0")
OTHER_CHANNEL = b"vibration".ljust(32, b"\0")
NO_REPORT = (b"\x05" * 32, 3, 2, 1)
FIELDS = {
    "manifestHash": b"\x01" * 32,
    "groupRoot": b"\x02" * 32,
    "gateHash": b"\x03" * 32,
    "notBefore": 0,
    "expiresAt": FAR,
    "soak": 0,
    "waveCount": 1,
}


def manifest(number: int) -> bytes:
    return bytes([number]) * 32


def terms(number: int = 1, **changes: Any) -> tuple[Any, ...]:
    """The terms of a release of that manifest."""
    return tuple((FIELDS | {"manifestHash": manifest(number)} | changes).values())


def terms_digest(given: tuple[Any, ...]) -> bytes:
    """What the contract keeps of the terms."""
    return keccak(encode(["bytes32", "bytes32", "bytes32", "uint32", "uint32", "uint24", "uint8"], given))[:24]


@dataclass
class Rollout:
    """Moves the newest release of a channel on, and remembers its number."""

    releases: Any
    publisher: Any
    approver: Any
    channel: bytes = CHANNEL
    sequence: int = 0
    proposed: int = 0

    @property
    def head(self) -> Any:
        return self.releases.head(self.channel)

    def propose(self, number: int = 1, **changes: Any) -> Any:
        tx = self.releases.propose(self.channel, terms(number, **changes), sender=self.publisher)
        self.sequence += 1
        self.proposed = number
        return tx

    def approve(self) -> Any:
        return self.releases.approve(self.channel, self.sequence, manifest(self.proposed), sender=self.approver)

    def open_wave(self) -> Any:
        return self.releases.openWave(self.channel, self.sequence, sender=self.publisher)

    def pause(self) -> Any:
        return self.releases.pause(self.channel, self.sequence, sender=self.publisher)

    def resume(self) -> Any:
        return self.releases.resume(self.channel, self.sequence, sender=self.approver)

    def finalise(self, number: int = 1, floor: int = 0) -> Any:
        call = (self.channel, manifest(number), floor, NO_REPORT)
        return self.releases.finalise(*call, sender=self.publisher)

    def roll_back(self, number: int = 1) -> Any:
        tx = self.releases.rollBack(self.channel, manifest(number), sender=self.publisher)
        self.sequence += 1
        return tx

    def revoke(self, number: int = 1) -> Any:
        return self.releases.revoke(self.channel, manifest(number), sender=self.approver)

    def reach(self, state: State, number: int = 1, **changes: Any) -> None:
        """Proposes a release of that manifest and brings it to that state."""
        self.propose(number, **changes)
        ways = {
            State.PROPOSED: [],
            State.APPROVED: [self.approve],
            State.ROLLING: [self.approve, self.open_wave],
            State.PAUSED: [self.approve, self.open_wave, self.pause],
            State.REVOKED: [lambda: self.revoke(number)],
        }
        waves = [self.open_wave] * changes.get("waveCount", 1)
        ways[State.COMPLETED] = [self.approve, *waves, lambda: self.finalise(number)]
        for step in ways[state]:
            step()
