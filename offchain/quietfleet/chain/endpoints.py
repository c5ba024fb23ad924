"""Endpoints in use and in reserve, as one source: who is down, refuses or lags rests, and the next one takes its place.

Theory of operation. A reading begins with the newest header, and only there is it chosen whom to read from: the first
of the settings that answer, one or two that must agree. Everything else the reading asks goes to the same ones, so that
no reading mixes two views of the chain; an endpoint that fails on the way spoils the reading, and the next begins with
another. What the endpoints know of the chain may differ by some blocks: to the follower that is a lag, or a reorg.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

from quietfleet.chain.agree import AgreeingSource
from quietfleet.chain.source import Header, RawLog, Source
from quietfleet.clock import Clock
from quietfleet.errors import ChainDisagreement, ChainError, ChainMismatch, ChainRefused, ChainUnavailable

REST: Final = 60.0
"""Seconds for which an endpoint that failed is asked only if the others fail too; then it has its place back."""
LAG: Final = 3
"""Blocks an endpoint may be behind another."""
COMPARE_EVERY: Final = 5.0
"""Seconds between two looks at what the others show, while the endpoint in use shows nothing new."""

_YOUNG: Final = 4  # as a divisor of the limit: whose newest block is younger is up to date, whatever others claim
_OLD: Final = 2  # whose newest block is older is left for any that shows a newer one

_Answer = TypeVar("_Answer")


class Endpoints:
    """A source over several; `agreeing` of them are read at a time, distinct ones, and must say the same.

    `max_age` is how old (seconds) a newest block may be before nobody trusts it any more.
    """

    def __init__(self, sources: Sequence[Source], clock: Clock, max_age: float, *, agreeing: int = 1) -> None:
        self._all = tuple(_Endpoint(source, place, clock) for place, source in enumerate(sources))
        self._chosen = self._all[:agreeing]
        self._clock = clock
        self._max_age = max_age
        self._agreeing = agreeing
        self._compare_due = 0.0
        self._rested: tuple[int, ...] = ()
        self.switches = 0

    @property
    def in_use(self) -> tuple[int, ...]:
        """The places, in the order of the settings and from 0, of the endpoints that are read."""
        return tuple(one.place for one in self._chosen)

    @property
    def resting(self) -> tuple[int, ...]:
        """The places of those that failed not long ago."""
        return tuple(one.place for one in self._all if one.rests)

    async def header(self, number: int | None = None) -> Header | None:
        """Return block `number`'s header from those in use; for None, choose whom to use and return the newest."""
        if number is not None:
            return await self._source.header(number)
        self._rested = self.resting
        heads = await self._answering()
        if self._doubtful(heads):
            heads = await self._compared(heads)
        self._use(tuple(heads))
        return await self._source.common(list(heads.values()))

    async def logs(self, first: int, last: int) -> list[RawLog]:
        """Return the logs of these blocks from those in use."""
        return await self._source.logs(first, last)

    async def logs_in(self, block_hash: bytes) -> list[RawLog]:
        """Return the logs of this block from those in use."""
        return await self._source.logs_in(block_hash)

    def failed(self, error: ChainError) -> bool:
        """Hear that a reading came to nothing; return whether the next may begin at once, with others.

        Where two disagree nobody is left: a third must not decide which of them is believed.
        """
        if isinstance(error, ChainDisagreement):
            return False
        blamed = [one for one in self._chosen if one.rests or (isinstance(error, ChainRefused) and one.refused)]
        for one in blamed or self._chosen:
            one.rest()
        enough = len(self._all) - len(self.resting) >= self._agreeing
        return enough and self.resting != self._rested  # else this would go on for ever

    @property
    def _source(self) -> AgreeingSource:
        return AgreeingSource(self._chosen)

    def _use(self, chosen: tuple[_Endpoint, ...]) -> None:
        if chosen != self._chosen:
            self.switches += 1
            self._chosen = chosen

    async def _answering(self) -> dict[_Endpoint, Header | None]:
        """Ask in the order of the settings, those that rest last, until enough have answered."""
        waiting = sorted(self._all, key=lambda one: (one.rests_until if one.rests else 0.0, one.place))
        heads: dict[_Endpoint, Header | None] = {}
        errors: list[ChainError] = []
        while len(heads) < self._agreeing:
            asked, waiting = waiting[: self._agreeing - len(heads)], waiting[self._agreeing - len(heads) :]
            if not asked:
                raise next((one for one in errors if not isinstance(one, ChainMismatch)), errors[0])
            for one, answer in (await _newest(asked)).items():
                if isinstance(answer, ChainError):
                    errors.append(answer)
                else:
                    heads[one] = answer
        return heads

    def _doubtful(self, heads: dict[_Endpoint, Header | None]) -> bool:
        """Whether to ask the others as well: after a change, and where the newest block is not quite young."""
        if len(heads) == len(self._all):
            return False
        slow = any(head is None or self._age(head) > self._max_age / _YOUNG for head in heads.values())
        return tuple(heads) != self._chosen or (slow and self._clock.now() >= self._compare_due)

    async def _compared(self, heads: dict[_Endpoint, Header | None]) -> dict[_Endpoint, Header | None]:
        """Leave those that are behind others, if enough others are there."""
        self._compare_due = self._clock.now() + COMPARE_EVERY
        others = await _newest([one for one in self._all if one not in heads and not one.rests])
        known = heads | {one: answer for one, answer in others.items() if not isinstance(answer, ChainError)}
        # only what is fresh is a reason to leave: on a chain that stands still, or by a wrong clock, all are old
        fresh = [head.number for head in known.values() if head and abs(self._age(head)) <= self._max_age]
        behind = {one for one, head in known.items() if self._behind(head, max(fresh, default=0))}
        if len(known) - len(behind) < self._agreeing:
            return heads
        for one in behind:
            one.rest()
        ahead = sorted(known.keys() - behind, key=lambda one: (one.rests, one.place))
        return {one: known[one] for one in ahead[: self._agreeing]}

    def _behind(self, head: Header | None, best: int) -> bool:
        if head is None or self._age(head) <= self._max_age / _YOUNG:
            return head is None
        lag = best - head.number
        return lag > LAG or (lag > 0 and self._age(head) > self._max_age / _OLD)

    def _age(self, head: Header) -> float:
        return self._clock.now() - head.timestamp


class _Endpoint:
    """One endpoint, and how it stands with us."""

    def __init__(self, source: Source, place: int, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self.place = place
        self.rests_until = 0.0
        self.refused = False

    @property
    def rests(self) -> bool:
        """Whether it failed not long ago; a clock that was set back does not prolong that."""
        return 0.0 < self.rests_until - self._clock.now() <= REST

    def rest(self) -> None:
        self.rests_until = self._clock.now() + REST

    async def newest(self) -> Header | None:
        """Begin a reading: what it refuses from here on counts against it if the reading fails."""
        self.refused = False
        try:
            return await self.header()
        except ChainError:
            self.rest()
            raise

    async def header(self, number: int | None = None) -> Header | None:
        return await self._asked(self._source.header(number))

    async def logs(self, first: int, last: int) -> list[RawLog]:
        return await self._asked(self._source.logs(first, last))

    async def logs_in(self, block_hash: bytes) -> list[RawLog]:
        return await self._asked(self._source.logs_in(block_hash))

    async def _asked(self, answer: Awaitable[_Answer]) -> _Answer:
        """A refusal alone is no failure: a range may be too large, a block unknown."""
        try:
            return await answer
        except (ChainUnavailable, ChainMismatch):
            self.rest()
            raise
        except ChainRefused:
            self.refused = True
            raise


async def _newest(endpoints: Sequence[_Endpoint]) -> dict[_Endpoint, Header | ChainError | None]:
    """Ask all of them for their newest header at once."""

    async def ask(one: _Endpoint) -> Header | ChainError | None:
        try:
            return await one.newest()
        except ChainError as error:
            return error

    return dict(zip(endpoints, await asyncio.gather(*map(ask, endpoints)), strict=True))
