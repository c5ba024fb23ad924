"""A disk that is full, read-only or damaged; clocks that jump; a chain and a network that go away for a while."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3

import pytest
from worker_world import DAY, HOUR, MAX_AGE, hours

from quietfleet.errors import DiskFull, StateDamaged, TransactionLost
from quietfleet.storage import AuditLog, Database, fault_of

PAGE = 4096


def bear(world):
    """Have workers read the chain as they do by themselves: what a disk does not take is read again."""
    read, lagging = world._read, set()

    async def reads(worker, ancestor, located):
        head = worker.runtime.replica.head
        if worker.name in lagging and head is not None:
            ancestor, located = head.number, tuple(one for one in world._events if one.block > head.number)
        try:
            with worker.runtime.disk.borne():
                lagging.add(worker.name)
                await read(worker, ancestor, located)
                lagging.discard(worker.name)
        finally:
            if worker.name in lagging:
                worker.runtime.recover()

    world._read = reads


def fill(worker):
    """Let the worker's database grow no further."""
    bear(worker.world)
    pages = worker.rows("PRAGMA page_count")[0][0]
    worker.rows(f"PRAGMA max_page_count = {pages}")


def free(worker):
    worker.rows("PRAGMA max_page_count = 1000000")


async def said(world, count):
    """So many readings were measured, and each answered once, in order."""
    sensor = world.workers["sensor"]
    await world.until(lambda: sensor.agent.status()["answered"] >= count, within=150)
    taken = sensor.journal("recommendation")
    assert all(entry["rows"] for entry in taken)
    throughs = [entry["through"] for entry in taken]
    assert throughs == sorted(set(throughs))
    assert sum(entry["rows"] for entry in taken) == sensor.agent.status()["measured"]


# full


async def measure_until_full(fleet, sensor):
    """Measure as long as there is room; return how many readings."""
    count = 0
    while not sensor.runtime.disk.words:
        sensor.measure(hours(6, count * HOUR))
        count += 6
        await fleet.pass_time(1)
        assert count < 5000
    return count


async def test_disk_full__sensor__measures_on_in_memory_sends_nothing_new_and_catches_up(fleet, sensor, processor):
    fleet.lose = lambda *_: True
    fill(sensor)
    count = await measure_until_full(fleet, sensor)
    assert "full" in sensor.runtime.status()["disk"]
    fleet.lose = lambda *_: False
    fleet.wire.clear()
    for _ in range(5):
        sensor.measure(hours(1, count * HOUR))
        count += 1
        await fleet.pass_time(2)
    topics = [envelope.topic for worker, envelope in fleet.wire if worker is sensor]
    assert len(topics) == len(set(topics)) <= 2, "what it cannot note down it cannot say"
    free(sensor)
    await fleet.until(lambda: sensor.runtime.status()["disk"] == "fine")
    assert [entry["was"] for entry in sensor.journal("disk-fault-over")] == ["DiskFull"]
    await said(fleet, count)
    assert sensor.agent.status()["measured"] == count
    assert sensor.metric("steps_failed") == 0
    AuditLog(sensor.runtime.database).verify()


async def test_disk_full__processor__answers_nothing_and_each_reading_once_later(fleet, sensor, processor):
    fill(processor)
    readings = [(at / 6, fields) for at, fields in hours(240, 0.0)]
    for first in range(0, 240, 6):
        sensor.measure(readings[first : first + 6])
        await fleet.pass_time(2)
    assert processor.runtime.disk.words
    before = len(sensor.journal("recommendation"))
    await fleet.pass_time(10)
    assert len(sensor.journal("recommendation")) == before
    free(processor)
    await said(fleet, 240)
    assert sum(entry["new"] for entry in processor.journal("readings")) == 240


def test_transaction__sqlite_gives_it_up_inside__nothing_of_the_step_stands(tmp_path):
    with Database(tmp_path / "worker.db") as database:
        database.execute("CREATE TABLE kept (body BLOB) STRICT")
        database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0]}")
        with pytest.raises(TransactionLost), database.transaction():  # noqa: PT012 - each statement is part of it
            with pytest.raises(sqlite3.OperationalError) as refused, database.transaction():
                database.execute("INSERT INTO kept VALUES (zeroblob(100000))")
            assert isinstance(fault_of(refused.value), DiskFull)
            database.execute("INSERT INTO kept VALUES (x'00')")
        assert database.execute("SELECT count(*) FROM kept").fetchone() == (0,)


# read-only, damaged, gone


def test_disk_full__for_real__typed_undone_and_whole_when_there_is_room(small_disk):
    with Database(small_disk / "worker.db") as database:
        database.execute("CREATE TABLE kept (body BLOB) STRICT")
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space") as full:
            ballast.write_bytes(bytes(1 << 20))
        assert isinstance(fault_of(full.value), DiskFull)
        with pytest.raises(sqlite3.OperationalError) as refused, database.transaction():
            database.execute("INSERT INTO kept VALUES (zeroblob(4000000))")
        assert isinstance(fault_of(refused.value), DiskFull)
        assert database.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        ballast.unlink()
        database.execute("INSERT INTO kept VALUES (zeroblob(4000))")
        database.check()


def middle(path):
    """Overwrite a page in the middle of the file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // PAGE * PAGE)
        file.write(os.urandom(PAGE))


def last_page(path):
    with path.open("r+b") as file:
        file.seek(-PAGE, os.SEEK_END)
        file.write(b"\xff" * PAGE)


def truncated(path):
    os.truncate(path, path.stat().st_size // 2 + 100)


def no_database(path):
    path.write_bytes(b"all that is left of it\n" * 300)


@pytest.mark.parametrize("damage", [middle, last_page, truncated, no_database])
async def test_start__damaged_database__refused_in_one_sentence(fleet, sensor, damage):
    for first in range(0, 600, 100):
        sensor.measure(hours(first + 100, 0.0)[first:])
        await fleet.pass_time(1)
    sensor.crash()
    damage(sensor.runtime.database.path)
    with pytest.raises(Exception) as refused:
        sensor.start()
    fault = fault_of(refused.value)
    assert isinstance(fault, StateDamaged)
    assert "start" in str(fault)
    assert "\n" not in str(fault)


async def image_of(worker, *, then):
    """Copy what a worker's disk has, and let the worker go on."""
    image = worker.runtime.folder.with_name("image")
    shutil.copytree(worker.runtime.folder, image)
    await then()
    return image


def put_back(worker, image, *names):
    """Put these files of an older state in the place of the newer ones."""
    worker.crash()
    for name in names:
        shutil.copy(image / name, worker.runtime.folder / name)
    (worker.runtime.folder / "worker.db-shm").unlink(missing_ok=True)


def said_by(fleet, worker):
    return [(envelope.topic, envelope.data) for sender, envelope in fleet.wire if sender is worker]


async def measured_on(fleet, sensor, count, first):
    sensor.measure(hours(count, first * HOUR))
    await fleet.pass_time(4)


def back_again(sensor, measured):
    """Start on what the disk has; what it no longer knows of is measured again."""
    sensor.start()
    sensor.source.coming = measured[sensor.agent.status()["measured"] :]
    sensor.runtime._reconcile()


async def test_start__older_log_put_back__no_key_twice_and_sessions_anew(fleet, sensor, processor):
    await measured_on(fleet, sensor, 3, 0)
    image = await image_of(sensor, then=lambda: measured_on(fleet, sensor, 3, 3))
    before = said_by(fleet, sensor)
    put_back(sensor, image, "worker.db", "worker.db-wal")
    fleet.wire.clear()
    back_again(sensor, hours(9, 0.0))
    await fleet.catch_up(sensor)
    fleet.reach(9 * HOUR)
    assert not sensor.in_session_with(processor)
    await said(fleet, 9)
    assert len(sensor.journal("state-set-back")) == 1
    topics = [topic for topic, _ in before]
    assert not [topic for topic, _ in said_by(fleet, sensor) if topic in topics], "the keys that made them were spent"
    assert sum(entry["new"] for entry in processor.journal("readings")) == 9
    sensor.restart()
    assert len(sensor.journal("state-set-back")) == 1, "it is over"


async def test_start__older_log_put_back__what_was_recorded_and_is_sent_again_is_not_heard(fleet, sensor, processor):
    await measured_on(fleet, sensor, 3, 0)
    image = await image_of(sensor, then=lambda: measured_on(fleet, sensor, 3, 3))
    recorded = [envelope for sender, envelope in fleet.wire if sender is processor]
    put_back(sensor, image, "worker.db", "worker.db-wal")
    back_again(sensor, hours(6, 0.0))
    taken, accepted = len(sensor.journal("recommendation")), sensor.metric("messages_received")
    for envelope in recorded:
        await sensor.hear(envelope)
    assert (len(sensor.journal("recommendation")), sensor.metric("messages_received")) == (taken, accepted)


def middle_of_log(data):
    """Where the middle frame is of those that count; behind them may be older ones that are to be written over.

    https://sqlite.org/fileformat2.html#the_write_ahead_log
    """
    header, frame = 32, 24 + int.from_bytes(data[8:12], "big")
    places = range(header, len(data) - frame + 1, frame)
    valid = [at for at in places if data[at + 8 : at + 16] == data[16:24]]
    return valid[len(valid) // 2] + 64


async def test_start__damaged_log__found_out_and_everything_said_again_in_a_new_session(fleet, sensor, processor):
    await measured_on(fleet, sensor, 3, 0)
    sensor.measure(hours(3, 3 * HOUR))
    await fleet.pass_time(4)
    crashed = await image_of(sensor, then=fleet.run)
    put_back(sensor, crashed, "worker.db", "worker.db-wal", "worker.mark")
    log = sensor.runtime.folder / "worker.db-wal"
    whole, place = log.read_bytes(), middle_of_log(log.read_bytes())
    log.write_bytes(whole[:place] + bytes(255 - byte for byte in whole[place : place + 64]) + whole[place + 64 :])
    back_again(sensor, hours(6, 0.0))
    await fleet.catch_up(sensor)
    await said(fleet, 6)
    assert len(sensor.journal("state-set-back")) == 1
    assert sum(entry["new"] for entry in processor.journal("readings")) == 6


@pytest.mark.parametrize("content", [None, b"", b"no number"])
async def test_start__mark_gone_or_no_mark__sessions_anew(fleet, sensor, processor, content):
    sensor.crash()
    mark = sensor.runtime.folder / "worker.mark"
    mark.unlink()
    if content is not None:
        mark.write_bytes(content)
    back_again(sensor, [])
    await fleet.catch_up(sensor)
    assert not sensor.in_session_with(processor)
    await fleet.until(lambda: sensor.in_session_with(processor), within=90)


async def test_mark__disk_does_not_take_it__nothing_leaves(fleet, sensor, monkeypatch):
    def refuses(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    sensor.measure(hours(3, 0.0))
    await sensor.beat()
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", refuses)
        with pytest.raises(OSError, match="No space"):
            await sensor.runtime.flush()
    assert sensor.node.sent == []
    await said(fleet, 3)


async def test_sealed_row__does_not_open__refused_in_one_sentence(fleet, sensor):
    sensor.rows("UPDATE session_sessions SET row = zeroblob(100)")
    sensor.crash()
    with pytest.raises(StateDamaged, match="empty folder"):
        sensor.start()


# clocks, chain, network


@pytest.mark.parametrize("jump", [DAY, -DAY])
async def test_clock__jumps_a_day_and_back__stops_says_so_and_goes_on(fleet, sensor, processor, jump):
    sensor.measure(hours(3, 0.0))
    await fleet.pass_time(4)
    fleet.chain_runs = False
    fleet.clock.advance(jump)
    sensor.measure(hours(3, 3 * HOUR))
    await fleet.pass_time(10)
    assert sensor.runtime.registry.stale
    assert len(sensor.journal("recommendation")) == 1
    fleet.clock.advance(-jump)
    fleet.chain_runs = True
    await said(fleet, 6)
    assert sum(entry["new"] for entry in processor.journal("readings")) == 6
    assert not sensor.runtime.registry.stale


@pytest.mark.parametrize("jump", [DAY, -DAY])
async def test_data_clock__of_one_side_jumps_a_day__each_reading_answered_once(fleet, sensor, processor, jump):
    sensor.measure(hours(3, 2 * DAY))
    await fleet.pass_time(4)
    fleet.data.advance(jump)
    sensor.source.coming = hours(3, 2 * DAY + 3 * HOUR)
    await fleet.pass_time(6)
    await said(fleet, 6)


async def test_chain__away_for_a_hundred_blocks__same_sessions_and_nothing_lost(fleet, sensor, processor):
    fleet.chain_runs = False
    await fleet.pass_time(5)
    sensor.measure(hours(3, 0.0))
    await fleet.pass_time(100)
    sensor.measure(hours(3, 3 * HOUR))
    assert sensor.runtime.registry.stale
    fleet.reach(6 * HOUR)
    for _ in range(100):
        await fleet.say()
    fleet.chain_runs = True
    await said(fleet, 6)
    assert MAX_AGE < 100
    assert len(sensor.journal("session-open")) == 1
    assert sum(entry["new"] for entry in processor.journal("readings")) == 6


@pytest.mark.parametrize("seconds", [10, 100])
async def test_network__parted_and_whole_again__nothing_lost_or_done_twice(fleet, sensor, processor, seconds):
    sensor.measure(hours(3, 0.0))
    await fleet.pass_time(4)
    fleet.lose = lambda *_: True
    sensor.measure(hours(3, 3 * HOUR))
    await fleet.pass_time(seconds)
    fleet.lose = lambda *_: False
    await said(fleet, 6)
    assert sum(entry["new"] for entry in processor.journal("readings")) == 6
