"""Which three relays carry a packet: a pinned guard, then middle and exit drawn from what the chain vouches for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from quietfleet.errors import PathUnavailable
from quietfleet.mixnet.book import Relay
from quietfleet.mixnet.descriptor import RelayDescriptor

COVERAGE: Final = 0.5  # of the registered relays must be known, lest who tells us of relays chooses them for us


@dataclass(frozen=True, slots=True)
class Path:
    """Three relays of three owners."""

    guard: Relay
    middle: Relay
    exit: Relay

    @property
    def descriptors(self) -> tuple[RelayDescriptor, RelayDescriptor, RelayDescriptor]:
        """What `build` takes."""
        return self.guard.descriptor, self.middle.descriptor, self.exit.descriptor

    @property
    def addresses(self) -> tuple[bytes, bytes, bytes]:
        """The 20-byte addresses, guard first."""
        return self.guard.address, self.middle.address, self.exit.address


def choose_path(
    live: Sequence[Relay],
    guard: Relay,
    rng: Random,
    *,
    own_owner: str | None = None,
    avoid: Iterable[Path] = (),
    registered: int = 0,
) -> Path:
    """Draw middle and exit behind this guard; PathUnavailable rather than a path that hides less.

    `avoid` are earlier paths whose middles and exits, and all relays of their owners, are not used again. `registered`
    is how many relays the chain lists: less than half of them in `live` are too few. Pass a `SystemRandom` as `rng`.
    """
    check_coverage(live, registered)
    if guard.owner == own_owner:
        raise PathUnavailable("the guard is of our own owner")
    taken = {guard.owner, own_owner} | {relay.owner for path in avoid for relay in (path.middle, path.exit)}
    candidates = [relay for relay in live if relay.owner not in taken]
    middle = _draw(candidates, rng, "middle")
    return Path(guard, middle, _draw([relay for relay in candidates if relay.owner != middle.owner], rng, "exit"))


def check_coverage(live: Sequence[Relay], registered: int) -> None:
    """Raise PathUnavailable when `live` is less than half of what the chain lists."""
    if len(live) < COVERAGE * registered:
        raise PathUnavailable(f"{len(live)} of {registered} registered relays are known")


def _draw(candidates: Sequence[Relay], rng: Random, role: str) -> Relay:
    if not candidates:
        raise PathUnavailable(f"no relay of another owner is left as {role}")
    return rng.choice(candidates)
