"""Drives a follower for as long as a worker lives: on the bell or the interval, through outages, until cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from quietfleet.chain.follower import Follower
from quietfleet.chain.types import Change
from quietfleet.errors import AbiError, ChainError, ChainMismatch, DeploymentError

LONGEST_WAIT: Final = 30.0
"""Seconds between tries, at most, while the endpoint is down."""

_DOUBLINGS: Final = 16
_FATAL: Final = (AbiError, ChainMismatch, DeploymentError)


class Waker(Protocol):
    """Something that may cut a wait short, such as a Bell."""

    async def wait(self, seconds: float) -> None:
        """Return when there may be news, after `seconds` at the latest."""
        ...


class Watch:
    """Yields the changes of each step that brought any; `outages` counts the steps that failed.

    An endpoint that is down, refuses, disagrees or has gaps is tried again, later each time: meanwhile the replica
    grows stale, on which its readers fail closed. What only an operator can correct is raised. `failed` hears of each
    failure first; if it returns that there are other endpoints, the next step begins at once.
    """

    def __init__(
        self,
        follower: Follower,
        interval: float,
        bell: Waker | None = None,
        longest_wait: float = LONGEST_WAIT,
        failed: Callable[[ChainError], bool] = lambda _error: False,
    ) -> None:
        self._follower = follower
        self._interval = interval
        self._waker = bell or _Interval()
        self._longest_wait = longest_wait
        self._turned = failed
        self._failed = 0
        self._at_once = False
        self.steps = 0
        self.outages = 0
        self.last_error: ChainError | None = None

    @property
    def failing(self) -> bool:
        """Whether the latest step failed."""
        return self._failed > 0

    async def __aiter__(self) -> AsyncIterator[list[Change]]:
        while True:
            if changes := await self._step():
                yield changes
            await self._pause()

    async def _step(self) -> list[Change]:
        self.steps += 1
        try:
            changes = await self._follower.step()
        except ChainError as error:
            self._note(error)
            return []
        self._failed, self._at_once = 0, False
        return changes

    def _note(self, error: ChainError) -> None:
        self.outages += 1
        self.last_error = error
        self._at_once = self._turned(error)
        if isinstance(error, _FATAL) and not self._at_once:
            raise error
        self._failed += 1

    async def _pause(self) -> None:
        if self._at_once:
            await asyncio.sleep(0)
        elif self._failed:
            await asyncio.sleep(min(self._interval * 2 ** min(self._failed, _DOUBLINGS), self._longest_wait))
        elif self._follower.caught_up:
            await self._waker.wait(self._interval)
        else:
            await asyncio.sleep(0)


class _Interval:
    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
