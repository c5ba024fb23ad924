"""Ghosts: cover that goes on where a severed session's messages went, so that its end does not show.

Everybody reads on chain that a device was switched off. If the envelopes that went its way, or came from it, ended in
that moment, whoever counts them would learn who worked with it. So a severed session leaves a ghost: blooms, sizes and
rates as they were, until the configuration version is over, but no key and no name. What it sends is sealed under keys
that nobody has; to everybody else it looks like any other message, and takes the same way.

Each side covers what it said itself. A device that was switched off must not go on; whoever severs it covers its
direction too. All ghosts of a worker together are one Poisson process: the time to the next envelope is exponential,
and each is of one voice by chance, by its rate. Such a process has no memory, so that nothing of its state need be
kept; a restart draws anew.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

import msgspec

from quietfleet.session._pace import Pace
from quietfleet.session._table import Session
from quietfleet.session._tags import Tags
from quietfleet.session._vault import Mine, Random, Vault, everyone
from quietfleet.storage import Rows

LEAST: Final = 1 / 600  # envelopes a second of one direction, however quiet it was
MOST: Final = 4.0  # ... and however loud: nobody makes us work for what he sent before he was switched off
MOST_BYTES: Final = 32 << 10  # a second, likewise
ALL: Final = 16.0  # envelopes a second of all ghosts
LATE: Final = 5.0  # seconds of envelopes that are made up for when the sender was busy
_NEVER: Final = 50.0  # mean waits that no draw exceeds: the clock was set back


class Voice(msgspec.Struct, array_like=True, frozen=True):
    """Envelopes of one size class into one bloom, so many a second."""

    bloom: bytes
    size: int
    rate: float


class Ghost(msgspec.Struct, array_like=True, frozen=True):
    """What is left of the sessions with one peer: until which version, what we hear in, and where it goes on."""

    version: int
    heard_in: list[bytes]
    voices: list[Voice]


class Ghosts:
    """All ghosts of one worker; a row's id is a tag that only its secret makes of a peer."""

    def __init__(
        self, rows: Rows, secret: bytes, random: Random, sizes: tuple[int, ...], tags: Tags, mine: Mine = everyone
    ) -> None:
        self._mine = mine
        self._tags = tags
        self._random = random
        self._sizes = sizes
        self._vault = Vault(rows, "session_ghosts", secret, random)
        self._all: list[Voice] = []
        self._cumulated: list[float] | None = None  # of the rates of all, in their order; None when they have changed
        self._due = math.inf
        self.load()

    def load(self) -> None:
        """Read them from disk; among replicas each is somebody's, by its tag."""
        self._ghosts: dict[bytes, Ghost] = {tag: one for tag, one in self._vault.all(Ghost) if self._mine(tag.hex())}
        self._changed()

    def __len__(self) -> int:
        return len(self._ghosts)

    def leave(self, peer: str, sessions: Iterable[Session], now: float, *, both: bool) -> None:
        """Have a ghost go on for sessions with a peer that end; with `both`, for what the peer said as well."""
        self.leave_all([(peer, sessions, both)], now)

    def leave_all(self, ends: Iterable[tuple[str, Iterable[Session], bool]], now: float) -> None:
        """Have a ghost go on for each peer with whom sessions end, as `leave` does."""
        left = {}
        for peer, sessions, both in ends:
            live = [session for session in sessions if session.confirmed and session.generations]
            if live:
                left[self._tags.of(peer)] = self._ghost(live, now, both=both)
        if left:
            self._ghosts |= left
            self._vault.put_many(left.items())
            self._changed()

    def _ghost(self, live: list[Session], now: float, *, both: bool) -> Ghost:
        voices = [voice for one in live for voice in self._voices(one.peer_bloom, one.said, one.opened_at, now)]
        if both:
            voices += [voice for one in live for voice in self._voices(one.own_bloom, one.heard, one.opened_at, now)]
        version = max(max(one.generations) for one in live)
        return Ghost(version, sorted({one.own_bloom for one in live}), voices)

    def end(self, peer: str) -> None:
        """Let a peer's ghost go: the two are in session again."""
        if self._ghosts:
            self._forget([self._tags.of(peer)])

    def exhume(self, live: Iterable[int]) -> None:
        """Let go of the ghosts of versions no longer live."""
        kept = set(live)
        self._forget([tag for tag, ghost in self._ghosts.items() if ghost.version not in kept])

    def fall_silent(self) -> None:
        """Let go of all: whoever is switched off sends nothing."""
        self._forget(list(self._ghosts))

    def blooms(self) -> set[bytes]:
        """What the severed sessions heard in: a light worker's bloom does not change as one of them ends."""
        return {bloom for ghost in self._ghosts.values() for bloom in ghost.heard_in}

    def next(self, now: float) -> Voice | None:
        """Return whose envelope is due, if one is; whoever asks sends it."""
        cumulated = self._begin(now) if self._cumulated is None else self._cumulated
        if not cumulated:
            return None
        whole = cumulated[-1]
        rate = min(whole, ALL)
        if self._due > now + _NEVER / rate:
            self._due = now + self._wait(rate)
        if self._due > now:
            return None
        self._due = max(self._due, now - LATE) + self._wait(rate)
        at = bisect_right(cumulated, self._chance() * whole)
        return self._all[min(at, len(self._all) - 1)]

    def _begin(self, now: float) -> list[float]:
        """Draw when the next envelope is due, of those there are now."""
        self._all = [voice for ghost in self._ghosts.values() for voice in ghost.voices]
        cumulated = self._cumulated = list(accumulate(voice.rate for voice in self._all))
        if cumulated:
            self._due = now + self._wait(min(cumulated[-1], ALL))
        return cumulated

    def _changed(self) -> None:
        self._cumulated = None

    def _forget(self, tags: Iterable[bytes]) -> None:
        for tag in tags:
            if self._ghosts.pop(tag, None) is not None:
                self._vault.delete(tag)
                self._changed()

    def _voices(self, bloom: bytes, pace: Pace, since: float, now: float) -> list[Voice]:
        """One direction of a session as voices, within the bounds."""
        rates = pace.rates(since, now, len(self._sizes))
        rates[0] += max(0.0, LEAST - sum(rates))
        volume = sum(rate * size for rate, size in zip(rates, self._sizes, strict=True))
        share = min(1.0, MOST / sum(rates), MOST_BYTES / volume)
        return [Voice(bloom, size, rate * share) for size, rate in enumerate(rates) if rate]

    def _wait(self, rate: float) -> float:
        return -math.log(1.0 - self._chance()) / rate

    def _chance(self) -> float:
        """A number from 0 to below 1."""
        return (int.from_bytes(self._random(8), "big") >> 11) / (1 << 53)
