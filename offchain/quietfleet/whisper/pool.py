"""The envelopes a node holds and passes on: bounded, most urgent first, each only once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from quietfleet.whisper._envelope import Envelope
from quietfleet.whisper.rules import DropReason
from quietfleet.whisper.urgency import urgency


@dataclass(frozen=True, slots=True)
class Added:
    """The envelope is in the pool; these had to leave for it."""

    evicted: tuple[Envelope, ...] = ()


@dataclass(frozen=True, slots=True)
class _Held:
    envelope: Envelope
    urgency: float


class Pool:
    """At most `max_count` envelopes of `max_bytes` together; `weight` as in `urgency`.

    It remembers the hashes of `remember` envelopes that expired or were evicted, and does not take them again.
    """

    def __init__(
        self, *, max_bytes: int = 64 << 20, max_count: int = 65_536, weight: float = 0.5, remember: int = 65_536
    ) -> None:
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._weight = weight
        self._remember = remember
        self._held: dict[bytes, _Held] = {}
        self._by_urgency: dict[
            float, dict[bytes, None]
        ] = {}  # of equals the newest leaves first, the oldest goes first
        self._urgencies: list[float] = []  # in order
        self._by_expiry: dict[int, dict[bytes, None]] = {}
        self._gone: OrderedDict[bytes, None] = OrderedDict()
        self._bytes = 0

    def add(self, envelope: Envelope, pow: float, now: float) -> Added | DropReason:  # noqa: A002 -- the protocol's word
        """Take an envelope with this proof of work; evicts only what is less urgent, else answers POOL_FULL."""
        if envelope.hash in self:
            return DropReason.DUPLICATE
        if envelope.expiry < int(now):
            return DropReason.EXPIRED
        held = _Held(envelope, urgency(pow, envelope.ttl, self._weight))
        victims = self._victims(len(envelope.encode()), held.urgency)
        if victims is None:
            return DropReason.POOL_FULL
        evicted = tuple(self._remove(victim) for victim in victims)
        self._insert(held)
        return Added(evicted)

    def sweep(self, now: float) -> list[Envelope]:
        """Remove and return what expired before `now`."""
        expired = sorted(expiry for expiry in self._by_expiry if expiry < int(now))
        return [self._remove(key) for expiry in expired for key in sorted(self._by_expiry[expiry])]

    def remove(self, key: bytes) -> Envelope | None:
        """Remove and return what is held under this hash; it is not taken again."""
        return self._remove(key) if key in self._held else None

    def pass_over(self, key: bytes) -> None:
        """Remember a hash as one that was here, so that it is not taken."""
        self._gone[key] = None
        if len(self._gone) > self._remember:
            self._gone.popitem(last=False)

    def get(self, key: bytes) -> Envelope | None:
        """Return the envelope held under this hash."""
        held = self._held.get(key)
        return held.envelope if held else None

    @property
    def size(self) -> int:
        """The encoded size of all it holds."""
        return self._bytes

    def __contains__(self, key: object) -> bool:
        """Say whether the hash is held or was, as far back as the pool remembers."""
        return key in self._held or key in self._gone

    def __iter__(self) -> Iterator[Envelope]:
        """Iterate over a snapshot, most urgent first."""
        return iter([self._held[key].envelope for each in reversed(self._urgencies) for key in self._by_urgency[each]])

    def __len__(self) -> int:
        return len(self._held)

    def _victims(self, size: int, urgency: float) -> list[bytes] | None:
        """Return the least urgent hashes whose removal makes room for `size` bytes; None if too few are less urgent."""
        count, total = len(self._held) + 1, self._bytes + size
        victims: list[bytes] = []
        if count <= self._max_count and total <= self._max_bytes:
            return victims
        for key in self._less_urgent(urgency):
            victims.append(key)
            count, total = count - 1, total - len(self._held[key].envelope.encode())
            if count <= self._max_count and total <= self._max_bytes:
                return victims
        return None

    def _less_urgent(self, urgency: float) -> Iterator[bytes]:
        """Iterate over the hashes in the order they leave, up to those of this urgency."""
        for each in self._urgencies[: bisect_left(self._urgencies, urgency)]:
            yield from reversed(self._by_urgency[each])

    def _insert(self, held: _Held) -> None:
        key = held.envelope.hash
        self._held[key] = held
        if held.urgency not in self._by_urgency:
            self._by_urgency[held.urgency] = {}
            insort(self._urgencies, held.urgency)
        self._by_urgency[held.urgency][key] = None
        self._by_expiry.setdefault(held.envelope.expiry, {})[key] = None
        self._bytes += len(held.envelope.encode())

    def _remove(self, key: bytes) -> Envelope:
        held = self._held.pop(key)
        if _discard(self._by_urgency, held.urgency, key):
            del self._urgencies[bisect_left(self._urgencies, held.urgency)]
        _discard(self._by_expiry, held.envelope.expiry, key)
        self._bytes -= len(held.envelope.encode())
        self.pass_over(key)
        return held.envelope


def _discard(groups: dict[Any, dict[bytes, None]], rank: float, key: bytes) -> bool:
    """Take a hash out of its group; tell whether that was the group's last."""
    del groups[rank][key]
    if groups[rank]:
        return False
    del groups[rank]
    return True
