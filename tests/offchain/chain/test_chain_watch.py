"""The driver: outages, fatal errors, the bell and cancellation."""

from __future__ import annotations

import asyncio

import pytest

from quietfleet.chain.watch import Watch
from quietfleet.errors import ChainMismatch, ChainUnavailable

CHANGE = object()


class Scripted:
    """A follower that does as the script says: a list of changes, or an error to raise."""

    def __init__(self, *script):
        self.script = list(script)
        self.caught_up = True
        self.stepped = asyncio.Event()

    async def step(self):
        self.stepped.set()
        found = self.script.pop(0) if self.script else []
        if isinstance(found, Exception):
            raise found
        return found


class Waits:
    """A bell that records how long it was asked to wait, and rings at once."""

    def __init__(self):
        self.asked = []

    async def wait(self, seconds):
        self.asked.append(seconds)
        await asyncio.sleep(0)


async def test_watch__quiet_steps__yields_only_changes_and_waits_between():
    bell = Waits()
    changes = aiter(Watch(Scripted([], [CHANGE], [], [CHANGE, CHANGE]), 7, bell))
    assert [await anext(changes), await anext(changes)] == [[CHANGE], [CHANGE, CHANGE]]
    assert bell.asked == [7, 7, 7]


async def test_watch__still_behind__does_not_wait():
    bell = Waits()
    follower = Scripted([CHANGE], [CHANGE])
    follower.caught_up = False
    changes = aiter(Watch(follower, 7, bell))
    assert [await anext(changes), await anext(changes)] == [[CHANGE], [CHANGE]]
    assert bell.asked == []


async def test_watch__outage__goes_on_and_counts(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr("quietfleet.chain.watch.asyncio.sleep", sleep)
    outages = [ChainUnavailable("down")] * 6
    watch = Watch(Scripted(*outages, [CHANGE]), 1.0, Waits(), longest_wait=20)
    assert await anext(aiter(watch)) == [CHANGE]
    assert slept == [2, 4, 8, 16, 20, 20]
    assert (watch.outages, watch.steps) == (6, 7)
    assert isinstance(watch.last_error, ChainUnavailable)


async def test_watch__another_chain__raises():
    with pytest.raises(ChainMismatch):
        await anext(aiter(Watch(Scripted(ChainMismatch()), 1, Waits())))


async def test_watch__outage_of_many_hours__keeps_the_longest_wait():
    watch = Watch(Scripted(), 1.0, longest_wait=0)
    watch._failed = 5000
    await watch._pause()


async def test_watch__cancelled_while_waiting__ends():
    follower = Scripted()

    async def drive():
        async for _ in Watch(follower, 3600):
            pass

    task = asyncio.create_task(drive())
    await follower.stepped.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
