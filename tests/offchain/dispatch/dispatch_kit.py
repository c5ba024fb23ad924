"""Workers, an oracle and a clock for the tests of deals."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from hashlib import sha256, shake_256
from typing import Any

from quietfleet.dispatch import Capability, Dispatcher, Offer, Outgoing, Proposal, Seek

READINGS = Capability("readings", 2, "reading/1", "advice/1")
START = 1_000.0


def counting() -> Callable[[int], bytes]:
    """Unrepeating bytes in place of randomness, so that a failing test fails again."""
    numbers = itertools.count(1)
    return lambda size: shake_256(next(numbers).to_bytes(8, "big")).digest(size)


def id_of(name: str) -> str:
    return name.encode().hex().ljust(32, "0")


def key_of(name: str) -> bytes:
    """A one-time key as far as the oracle can tell."""
    return sha256(name.encode()).digest()


class Chain:
    """A registry that lets everybody work with everybody but the pairs in `apart` and the workers in `off`."""

    def __init__(self) -> None:
        self.apart: set[tuple[str, str]] = set()
        self.off: set[str] = set()

    def usable(self, worker: str) -> bool:
        return worker not in self.off

    def can_cooperate(self, a: str, b: str) -> bool:
        return self.usable(a) and self.usable(b) and (a, b) not in self.apart


class Oracle:
    """A dispatcher with a clock and a record of what it said to whom."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.now = START

    def hear(self, worker: str, message: Any) -> list[tuple[str, Any]]:
        return _pairs(self.dispatcher.handle(worker, message, self.now))

    def wait(self, seconds: float) -> list[tuple[str, Any]]:
        self.now += seconds
        return _pairs(self.dispatcher.tick(self.now))

    def forget(self, worker: str) -> list[tuple[str, Any]]:
        return _pairs(self.dispatcher.forget(worker, self.now))

    def offer(self, worker: str, **changes: Any) -> list[tuple[str, Any]]:
        return self.hear(worker, make_offer(worker, **changes))

    def seek(self, worker: str, **changes: Any) -> list[tuple[str, Any]]:
        return self.hear(worker, make_seek(worker, **changes))

    def renew(self, worker: str, key: str = "fresh", **changes: Any) -> list[tuple[str, Any]]:
        """Seek under the same id with another key."""
        return self.seek(worker, reply_key=key_of(f"{worker} {key}"), **changes)

    def deal(self, seeker: str = "sensor", provider: str = "processor", **offer: Any) -> Proposal:
        """Bring two workers to a proposal."""
        self.offer(provider, **offer)
        return proposal_in(self.seek(seeker))


def _pairs(outgoing: list[Outgoing]) -> list[tuple[str, Any]]:
    return [(said.worker_id, said.message) for said in outgoing]


def make_offer(worker: str, **changes: Any) -> Offer:
    fields: dict[str, Any] = {
        "offer_id": id_of(worker),
        "capability": READINGS,
        "attributes": {"region": "north", "weight": 3.0, "site": "mill", "tags": ("indoor", "steel")},
        "capacity": 1,
        "expires": START + 10_000,
    }
    capacity, expires = changes.get("capacity", 1), changes.get("expires", fields["expires"])
    fields["reply_keys"] = tuple(key_of(f"{worker} {expires} {number}") for number in range(min(64, capacity + 8)))
    return Offer(**{**fields, **changes})


def make_seek(worker: str, **changes: Any) -> Seek:
    fields: dict[str, Any] = {
        "seek_id": id_of(worker),
        "capability": "readings",
        "min_version": 1,
        "constraints": (),
        "expires": START + 600,
        "reply_key": key_of(f"{worker} seeks"),
    }
    return Seek(**{**fields, **changes})


def proposal_in(said: list[tuple[str, Any]]) -> Proposal:
    return next(message for _, message in said if isinstance(message, Proposal))


def told(said: list[tuple[str, Any]], kind: type) -> list[str]:
    """The workers that were told this kind of message, in order."""
    return [worker for worker, message in said if isinstance(message, kind)]
