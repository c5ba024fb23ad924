"""The envelopes a node holds and passes on: bounded, most urgent first, each only once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

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
    rank: tuple[float, int]  # urgency, then age: among equals the newest leaves first and the oldest is sent first


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
        self._by_rank: list[tuple[tuple[float, int], bytes]] = []
        self._by_expiry: list[tuple[int, bytes]] = []
        self._gone: OrderedDict[bytes, None] = OrderedDict()
        self._bytes = 0
        self._arrivals = 0

    def add(self, envelope: Envelope, pow: float, now: float) -> Added | DropReason:  # noqa: A002 -- the protocol's word
        """Take an envelope with this proof of work; evicts only what is less urgent, else answers POOL_FULL."""
        if envelope.hash in self:
            return DropReason.DUPLICATE
        if envelope.expiry < int(now):
            return DropReason.EXPIRED
        rank = (urgency(pow, envelope.ttl, self._weight), -self._arrivals)
        victims = self._victims(len(envelope.encode()), rank)
        if victims is None:
            return DropReason.POOL_FULL
        evicted = tuple(self._remove(victim) for victim in victims)
        self._insert(_Held(envelope, rank))
        return Added(evicted)

    def sweep(self, now: float) -> list[Envelope]:
        """Remove and return what expired before `now`."""
        expired = bisect_left(self._by_expiry, (int(now), b""))
        return [self._remove(key) for _, key in self._by_expiry[:expired]]

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
        return iter([self._held[key].envelope for _, key in reversed(self._by_rank)])

    def __len__(self) -> int:
        return len(self._held)

    def _victims(self, size: int, rank: tuple[float, int]) -> list[bytes] | None:
        """Return the least urgent hashes whose removal makes room for `size` bytes of this rank; None if none do."""
        count, total = len(self._held) + 1, self._bytes + size
        victims = []
        for victim_rank, key in self._by_rank:
            if count <= self._max_count and total <= self._max_bytes:
                break
            if victim_rank >= rank:
                return None
            victims.append(key)
            count, total = count - 1, total - len(self._held[key].envelope.encode())
        return victims if count <= self._max_count and total <= self._max_bytes else None

    def _insert(self, held: _Held) -> None:
        key = held.envelope.hash
        self._arrivals += 1
        self._held[key] = held
        insort(self._by_rank, (held.rank, key))
        insort(self._by_expiry, (held.envelope.expiry, key))
        self._bytes += len(held.envelope.encode())

    def _remove(self, key: bytes) -> Envelope:
        held = self._held.pop(key)
        del self._by_rank[bisect_left(self._by_rank, (held.rank, key))]
        del self._by_expiry[bisect_left(self._by_expiry, (held.envelope.expiry, key))]
        self._bytes -= len(held.envelope.encode())
        self.pass_over(key)
        return held.envelope
