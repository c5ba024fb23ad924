"""Entry guards: one relay, for months, is the only one to see where our packets come from.

Theory of operation. The list of guards is drawn at random, one entry when it is first needed, and kept on disk. The
first entry that is usable is our guard; those behind it serve only while it is not, and give way when it is back:

    untried ──first chosen──► up ──repeated failures──► down ──its pause is over──► trial ──success──► up
                               ▲                          ▲                           │
                               └── success                └────────one failure────────┘

An entry leaves the list when the chain has not vouched for it for a day, or when its pin of 60 to 90 days is over; what
the chain does not vouch for at this moment is not used, but may come back. Each newly tried guard is one more that may
be a spy, so a hostile one that drops packets must not make us try many: at most `MAX_TRIED` are tried for the first
time in any `PERIOD`. Beyond that there is no guard until one of ours is back. One whose descriptor is not at hand, as
after a start, is given `ABSENCE` to turn up before it makes us try another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import msgspec

from quietfleet.errors import DescriptorError, GuardUnavailable
from quietfleet.mixnet.book import OwnerOf, Relay
from quietfleet.mixnet.descriptor import RelayDescriptor, decode_descriptor
from quietfleet.mixnet.path import check_coverage

DAY: Final = 86_400
PIN: Final = (60 * DAY, 90 * DAY)
PERIOD: Final = 30 * DAY
MAX_TRIED: Final = 3
FIRST_PAUSE: Final = 60.0
LONGEST_PAUSE: Final = 3600.0
ABSENCE: Final = 600.0
UNVOUCHED: Final = DAY
LINK_FAILURES: Final = 3  # in a row: it does not answer
PATH_FAILURES: Final = 8  # in a row: with a fifth of all relays dropping, an honest guard has that one time in 3,500


class _Guard(msgspec.Struct):
    """One entry: `id` its EIP-55 address, `descriptor` the latest known, encoded; times in Unix seconds.

    With a `pause` it is down while `retry_at` is ahead, and then on trial.
    """

    id: str
    descriptor: bytes
    pinned_until: float
    link_failures: int = 0
    path_failures: int = 0
    pause: float = 0.0
    retry_at: float = 0.0


class _State(msgspec.Struct):
    """What is saved: the list in its order, and when guards were tried for the first time."""

    guards: list[_Guard] = msgspec.field(default_factory=list)
    tried_at: list[float] = msgspec.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class GuardView:
    """One entry; its latest known descriptor, perhaps expired, still says where to dial it after a start."""

    descriptor: RelayDescriptor
    pinned_until: float
    up: bool


class Guards:
    """The list of one node; `save` is called with bytes before what they say is acted upon.

    `load` returns what `save` was last given, or None at the first start; GuardUnavailable if it cannot be read.
    """

    def __init__(
        self,
        load: Callable[[], bytes | None],
        save: Callable[[bytes], None],
        owner_of: OwnerOf,
        rng: Random,
        own_owner: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._save = save
        self._owner_of = owner_of
        self._rng = rng
        self._own_owner = own_owner
        self._state = _read(load())
        self._absent: dict[str, float] = {}  # since when no descriptor of this guard is at hand
        self._unvouched: dict[str, float] = {}  # since when the chain does not vouch for it

    def current(self, live: Sequence[Relay], now: float, registered: int = 0) -> Relay:
        """Return the guard to use now, of the relays in `live`; draws one only when none of ours is usable.

        GuardUnavailable when none may be used now; PathUnavailable when too few relays are known to draw fairly, of
        the `registered` that the chain lists.
        """
        self._prune(now)
        known = {relay.descriptor.id: relay for relay in live}
        self._update(known, now)
        usable = self._usable(known, now)
        return usable[0] if usable else self._draw(known, now, registered)

    def second(self, live: Sequence[Relay], now: float) -> Relay | None:
        """Return the usable guard behind the current one, if one was ever needed; never draws."""
        usable = self._usable({relay.descriptor.id: relay for relay in live}, now)
        return usable[1] if len(usable) > 1 else None

    def link_failed(self, relay_id: str, now: float) -> None:
        """Note that no link to this guard can be had. Do not call it while the machine itself is offline."""
        guard = self._find(relay_id)
        if guard is not None:
            guard.link_failures += 1
            self._failed(guard, now)

    def path_failed(self, relay_id: str, now: float) -> None:
        """Note that an envelope sent through this guard never appeared; it may be another hop's doing."""
        guard = self._find(relay_id)
        if guard is not None:
            guard.path_failures += 1
            self._failed(guard, now)

    def succeeded(self, relay_id: str, now: float) -> None:
        """Note that an envelope sent through this guard appeared in the flood: it is up."""
        guard = self._find(relay_id)
        if guard is not None and (guard.link_failures or guard.path_failures or guard.pause):
            guard.link_failures = guard.path_failures = 0
            guard.pause = guard.retry_at = 0.0
            self._keep(now)

    @property
    def entries(self) -> tuple[GuardView, ...]:
        """The list in its order."""
        return tuple(
            GuardView(decode_descriptor(guard.descriptor), guard.pinned_until, up=not guard.pause)
            for guard in self._state.guards
        )

    def _usable(self, known: dict[str, Relay], now: float) -> list[Relay]:
        ours = self._own_owner()
        ready = [known[guard.id] for guard in self._state.guards if guard.id in known and guard.retry_at <= now]
        return [relay for relay in ready if relay.owner != ours]

    def _update(self, known: dict[str, Relay], now: float) -> None:
        """Keep the newest descriptors of our guards, and note since when one has none."""
        fresh = {guard.id: known[guard.id].descriptor.encode() for guard in self._state.guards if guard.id in known}
        absent = {guard.id for guard in self._state.guards} - known.keys() - self._unvouched.keys()
        self._absent = {relay_id: self._absent.get(relay_id, now) for relay_id in absent}
        stale = [guard for guard in self._state.guards if fresh.get(guard.id, guard.descriptor) != guard.descriptor]
        for guard in stale:
            guard.descriptor = fresh[guard.id]
        if stale:
            self._keep(now)

    def _failed(self, guard: _Guard, now: float) -> None:
        trial = guard.pause > 0
        if trial or guard.link_failures >= LINK_FAILURES or guard.path_failures >= PATH_FAILURES:
            guard.pause = min(LONGEST_PAUSE, 2 * guard.pause or FIRST_PAUSE)
            guard.retry_at = max(guard.retry_at, now + guard.pause)
        self._keep(now)

    def _prune(self, now: float) -> None:
        """Drop who left the chain's registry, and stayed away, and whose pin is over."""
        unvouched = [guard.id for guard in self._state.guards if self._owner_of(guard.id) is None]
        self._unvouched = {relay_id: self._unvouched.get(relay_id, now) for relay_id in unvouched}
        left = {relay_id for relay_id, since in self._unvouched.items() if now - since >= UNVOUCHED}
        kept = [guard for guard in self._state.guards if now < guard.pinned_until and guard.id not in left]
        if len(kept) < len(self._state.guards):
            self._state.guards = kept
            self._keep(now)

    def _draw(self, known: dict[str, Relay], now: float, registered: int) -> Relay:
        """Put one more guard behind those we have, if so many were not tried lately."""
        self._check_patience(now)
        check_coverage(list(known.values()), registered)
        relay = self._rng.choice(self._candidates(known))
        pinned_until = now + self._rng.uniform(*PIN)
        drawn = _Guard(relay.descriptor.id, relay.descriptor.encode(), pinned_until)
        state = _State([*self._state.guards, drawn], [*self._state.tried_at, now])
        self._save(msgspec.msgpack.encode(state))
        self._state = state
        return relay

    def _check_patience(self, now: float) -> None:
        """Raise GuardUnavailable if one of ours may still turn up, or too many were tried lately."""
        awaited = [since + ABSENCE for since in self._absent.values() if now < since + ABSENCE]
        if awaited:
            raise GuardUnavailable("its descriptor is not at hand yet", min(awaited))
        if sum(at > now - PERIOD for at in self._state.tried_at) >= MAX_TRIED:
            retries = [guard.retry_at for guard in self._state.guards if guard.retry_at > now]
            raise GuardUnavailable(f"{MAX_TRIED} were tried in {PERIOD // DAY} days", min(retries, default=None))

    def _candidates(self, known: dict[str, Relay]) -> list[Relay]:
        """Return relays of owners other than our guards' and our own; a single owner must not fill the list."""
        owners = {self._owner_of(guard.id) for guard in self._state.guards} | {self._own_owner()}
        candidates = [relay for _, relay in sorted(known.items()) if relay.owner not in owners]
        if not candidates:
            raise GuardUnavailable("no relay of another owner is known")
        return candidates

    def _find(self, relay_id: str) -> _Guard | None:
        return next((guard for guard in self._state.guards if guard.id == relay_id), None)

    def _keep(self, now: float) -> None:
        self._state.tried_at = [at for at in self._state.tried_at if at > now - PERIOD]
        self._save(msgspec.msgpack.encode(self._state))


def _read(saved: bytes | None) -> _State:
    if saved is None:
        return _State()
    try:
        state = msgspec.msgpack.decode(saved, type=_State)
        for guard in state.guards:
            decode_descriptor(guard.descriptor)
    except (msgspec.DecodeError, DescriptorError) as error:
        raise GuardUnavailable("the saved list cannot be read; without it we would be exposed anew") from error
    return state
