"""What strangers may hold of us before we know who they are, and what all peers' unhandled messages may take."""

from __future__ import annotations

from collections import Counter, OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final, Protocol

from quietfleet.errors import LinkError
from quietfleet.network.address import Address
from quietfleet.network.quota import Bucket

_VISIT_RATE: Final = 1.0  # connections a second from one address, in the long run
_VISITS: Final = 32  # and at once
_HANDSHAKE_RATE: Final = 200.0  # handshakes a second from everywhere: a tenth of a core, with half a millisecond each
_HANDSHAKES: Final = 400
_REMEMBERED: Final = 4096  # addresses


class Guest(Protocol):
    """A connection that can be ended."""

    def fail(self, error: LinkError) -> None: ...


class Admission:
    """Counts inbound connections: unfinished handshakes in all, and connections of one remote address.

    When a handshake too many begins, the oldest unfinished one ends: an honest one is over in milliseconds, so who
    wants to keep others out must outrun them, not just sit there. An IPv6 network of 64 bits is one address. How often
    an address may come is limited too, as is how many handshakes are begun in all: a recorded one, sent again, costs
    its sender nothing and us half a millisecond.
    """

    def __init__(self, max_pending: int, max_per_address: int, *, exempt_loopback: bool) -> None:
        self._max_pending, self._max_per_address = max_pending, max_per_address
        self._exempt_loopback = exempt_loopback
        self._pending: dict[Guest, None] = {}  # oldest first
        self._counts: Counter[str] = Counter()
        self._visits: OrderedDict[str, Bucket] = OrderedDict()  # who came last is last
        self._handshakes = Bucket(_HANDSHAKE_RATE, _HANDSHAKES)

    @property
    def pending(self) -> int:
        return len(self._pending)

    def has_time(self, now: float) -> bool:
        """Whether another handshake may begin at `now`, in seconds of any steady clock; counts it if so."""
        return self._handshakes.take(now)

    def enter(self, guest: Guest, remote: Address, now: float = 0.0) -> bool:
        """Take a connection in; False if its address has enough, or came too often. Each one taken in must `leave`."""
        place = self._place(remote)
        if place and (self._counts[place] >= self._max_per_address or not self._may_visit(place, now)):
            return False
        self._counts[place] += 1
        self._pending[guest] = None
        if len(self._pending) > self._max_pending:
            oldest = next(iter(self._pending))
            self.settle(oldest)
            oldest.fail(LinkError("others came", cause="crowded_out"))
        return True

    def settle(self, guest: Guest) -> None:
        """Its handshake is over, one way or the other."""
        self._pending.pop(guest, None)

    def leave(self, guest: Guest, remote: Address) -> None:
        self.settle(guest)
        place = self._place(remote)
        self._counts[place] -= 1
        if not self._counts[place]:
            del self._counts[place]

    def _may_visit(self, place: str, now: float) -> bool:
        visits = self._visits.setdefault(place, Bucket(_VISIT_RATE, _VISITS))
        self._visits.move_to_end(place)
        if len(self._visits) > _REMEMBERED:
            self._visits.popitem(last=False)
        return visits.take(now)

    def _place(self, remote: Address) -> str:
        """Return what is counted as one; empty where nothing is."""
        try:
            address = ip_address(remote.host)
        except ValueError:
            return remote.host
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        if address.is_loopback and self._exempt_loopback:
            return ""
        return f"{int(address) >> 64:x}/64" if isinstance(address, IPv6Address) else str(address)


class Holdings:
    """Bounds the memory that what was received and not yet handled takes on all links: who holds most goes first."""

    def __init__(self, limit: int) -> None:
        self._limit, self._sum = limit, 0
        self._held: dict[Guest, int] = {}

    def note(self, guest: Guest, held: int) -> None:
        """Note how many bytes a link holds now."""
        self._sum += held - self._held.pop(guest, 0)
        if held:
            self._held[guest] = held
        if self._sum > self._limit:
            largest = max(self._held, key=self._held.__getitem__)
            self._sum -= self._held.pop(largest)
            largest.fail(LinkError("others need the memory", cause="crowded_out"))
