"""A worker's own loops, as a process runs them, on a disk that fills up and on one whose pages go bad."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

import pytest
from test_worker_disk import PAGE, free
from worker_world import Node, hours

from quietfleet.chain._journal import Located
from quietfleet.chain.replica import Batch
from quietfleet.chain.types import Head
from quietfleet.errors import StateDamaged
from quietfleet.storage import fault_of
from quietfleet.workers import _host, _runtime

ENDPOINTS = SimpleNamespace(failed=0, in_use=(), resting=(), switches=0)
TURNS = 20_000  # of the event loop, in which anything that can happen has


class Arriving:
    """What the network brings: as much as the test lets in."""

    def __init__(self):
        self.queue = asyncio.Queue()

    def __aiter__(self):
        return self

    async def __anext__(self):
        return await self.queue.get()

    def take(self, _most):
        return []


class Running(Node):
    """A node that a process starts and stops."""

    def __init__(self):
        super().__init__()
        self.arriving = Arriving()

    async def start(self):
        """It is there."""

    async def stop(self):
        """It is gone."""

    def envelopes(self):
        return self.arriving


class Blocks:
    """Stands for the watch on a chain: hands its follower the blocks that the test mines."""

    def __init__(self, world):
        self.world = world
        self.mined = asyncio.Event()

    def __call__(self, *_arguments, **_options):
        return self

    async def __aiter__(self):
        while True:
            while self.runtime.replica.head.number < self.world._block:
                self.read()
                yield None
            await self.mined.wait()
            self.mined.clear()

    def read(self):
        """Take in what was mined since, in one step."""
        runtime, block = self.runtime, self.world._block
        known = runtime.replica.head.number
        events = tuple(one for one in self.world._events if one.block > known)
        head = Head(block, block.to_bytes(32, "big"), int(self.world.clock.now()))
        runtime.replica.advance(known, Batch(events, (head,)), 256, runtime.on_changes)

    def mine(self, *events):
        self.world._block += 1
        now = int(self.world.clock.now())
        self.world._events += [Located(self.world._block, index, now, event) for index, event in enumerate(events)]
        self.mined.set()


@pytest.fixture
async def running(fleet, sensor, monkeypatch):
    """The sensor of a fleet, its loops running by themselves."""
    monkeypatch.setattr(_host, "BEAT", 0.0)
    monkeypatch.setattr(_host, "AGAIN", 0.0)
    monkeypatch.setattr(_runtime, "AGAIN", 0.0)
    blocks = Blocks(fleet)
    blocks.runtime = sensor.runtime
    monkeypatch.setattr(_host, "Watch", blocks)
    monkeypatch.setattr(_host, "Follower", lambda *_arguments, **_options: None)
    monkeypatch.setattr(_host, "Endpoints", lambda *_arguments, **_options: ENDPOINTS)
    sensor.blocks, sensor.runtime.node = blocks, Running()
    sensor.task = asyncio.create_task(sensor.runtime.run())
    yield sensor
    if not sensor.task.done():
        sensor.runtime._stop.set()
        await sensor.task
    sensor.up = False


async def until(sensor, holds):
    """Let the loops turn, a second a while, with a block each, until something holds."""
    for turn in range(TURNS):
        if holds():
            return
        if turn % 20 == 0:
            sensor.world.clock.advance(1.0)
            sensor.blocks.mine()
        await asyncio.sleep(0)
    raise AssertionError(sensor.runtime.disk.words or "in vain")


async def test_loops__disk_fills_up_and_has_room_again__they_go_on_and_nothing_is_lost(running):
    sensor = running
    pages = sensor.rows("PRAGMA page_count")[0][0]
    sensor.rows(f"PRAGMA max_page_count = {pages}")
    measured = 0

    def full():
        nonlocal measured
        if not sensor.source.coming and not sensor.runtime.disk.words:
            sensor.measure(hours(24, measured * 3600.0))
            measured += 24
        return bool(sensor.runtime.disk.words)

    await until(sensor, full)
    block = sensor.world._block
    turns = iter(range(200))
    await until(sensor, lambda: next(turns) == 199)
    assert not sensor.task.done()
    assert "full" in sensor.runtime.disk.words
    sent = len(sensor.runtime.node.sent)
    free(sensor)
    await until(sensor, lambda: not sensor.runtime.disk.words)
    await until(sensor, lambda: sensor.runtime.replica.head.number > block)
    await until(sensor, lambda: len(sensor.runtime.node.sent) > sent)
    assert sensor.agent.status()["measured"] == measured
    assert sensor.metric("steps_failed") == 0
    assert [entry["was"] for entry in sensor.journal("disk-fault-over")] == ["DiskFull"]


async def test_loops__a_page_goes_bad_under_them__one_sentence_and_not_a_word_more(running):
    sensor = running
    for first in range(0, 480, 48):
        sensor.measure(hours(48, first * 3600.0))
        await until(sensor, lambda: not sensor.source.coming)
    sensor.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    sensor.rows("PRAGMA cache_size = 0")
    sensor.rows("PRAGMA shrink_memory")
    path = sensor.runtime.database.path
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // PAGE):
            file.seek(page * PAGE)
            file.write(os.urandom(PAGE))
    sent = len(sensor.runtime.node.sent)
    sensor.measure(hours(3, 480 * 3600.0))
    await until(sensor, sensor.task.done)
    fault = fault_of(sensor.task.exception())
    assert isinstance(fault, StateDamaged)
    assert "\n" not in str(fault)
    assert fault.exit_code != 0
    assert len(sensor.runtime.node.sent) == sent
