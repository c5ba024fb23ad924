"""Killed before every step of what a lake does: no reading is lost, none comes back, each erasure is told once."""

import shutil
from contextlib import suppress

import pytest
from lake_world import ASKED, DAY, MONTH, START, LakeWorld

from quietfleet.clock import ManualClock
from quietfleet.crypto import PrivateKey, derive, keccak256
from quietfleet.errors import HoldInForce, StorageError
from quietfleet.settings import load_settings
from quietfleet.storage import Hold, SealedColumn, TimeSeries, _lake_steps, _lake_work, certificates
from quietfleet.storage._parquet import Parquet
from quietfleet.workers._month import Month

HELD = Hold("case", "leaf", START, START + 6 * 3600, "counsel", "a claim", START)
FEWEST = 6  # steps that anything takes
LATE = START + MONTH + DAY / 2  # half of the first day is due then


def rows(day, hours=(1, 13)):
    return [(START + day * DAY + hour * 3600.0, {"temp": day + hour / 100}) for hour in hours]


def fill(lake):
    """Two days of two devices in files, the first day in two files, and something that is in none yet."""
    for device in ("leaf", "root"):
        lake.append(device, rows(0) + rows(1, (1,)), **ASKED)
    lake.flush()
    lake.append("leaf", rows(0, (2,)), **ASKED)
    lake.flush()
    lake.append("leaf", rows(0, (15,)), **ASKED)


def forget(lake):
    lake.forget("leaf", now=LATE, **ASKED)


def forget_held(lake):
    with suppress(StorageError):
        lake.hold(HELD)
    with pytest.raises(HoldInForce):
        lake.forget("leaf", now=LATE, **ASKED)


def append(lake):
    lake.append("root", rows(3), **ASKED)


ACTS = {
    "append": append,
    "flush": lambda lake: lake.flush(),
    "erase": lambda lake: lake.erase(LATE),
    "forget": forget,
    "forget held": forget_held,
    "erase day": lambda lake: lake.erase_day(int(START // DAY), **ASKED),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake") / "base"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_lake_steps, "FILES_A_DAY", 3)
        world = LakeWorld(folder)
        fill(world.lake)
        world.stop()
    return folder


@pytest.fixture(scope="module")
def shared():
    """One DuckDB for all: it keeps nothing, and takes its time to begin."""
    return Parquet()


@pytest.fixture
def opened(base, tmp_path, monkeypatch, shared):
    """Opens a copy of the base; two files of a day and what waits are put together by the next flush."""
    monkeypatch.setattr(_lake_steps, "FILES_A_DAY", 2)
    monkeypatch.setattr(_lake_work, "Parquet", lambda: shared)
    worlds = []

    def opened(name):
        shutil.copytree(base, tmp_path / name)
        worlds.append(LakeWorld(tmp_path / name))
        return worlds[-1]

    yield opened
    for world in worlds:
        world.stop()


def erased(world):
    """What was erased for what, as the trail has it."""
    return [(one["what"], one["rows"]) for one in certificates(world.audit)]


@pytest.mark.parametrize("name", ACTS)
def test_sigkill__before_each_step__all_or_nothing_and_then_it_is_done_again(opened, name):
    act = ACTS[name]
    world = opened("whole")
    before = world.readings()
    act(world.lake)
    after, told = world.readings(), erased(world)
    world.sound()
    assert after != before or name == "flush"
    for fatal in range(1, 500):
        world = opened(f"{fatal}")
        if not world.killed(act, fatal):
            break
        assert world.readings() in (before, after), fatal
        act(world.lake)
        assert world.readings() == after, fatal
        assert erased(world) == told, fatal
        world.sound()
        world.stop()
        shutil.rmtree(world.folder)
    assert fatal > FEWEST


def test_sigkill__half_a_file_written__nothing_of_it_stays(opened):
    world = opened("half")
    number = next(number for number in range(1, 60) if _dies_renaming(opened, number))
    assert world.killed(lambda lake: lake.flush(), number)
    assert any(name.endswith(".part") for name in world.names())
    world.sound()


def _dies_renaming(opened, number):
    world = opened(f"try {number}")
    world.killed(lambda lake: lake.flush(), number)
    return any(name.endswith(".part") for name in world.names())


def old_series(database):
    secret = PrivateKey.from_bytes(keccak256(b"gateway")).to_bytes()
    return TimeSeries(database, MONTH, sealed=SealedColumn(derive(secret, "storage", b"month"), "series.body"))


class Host:
    """What the month needs of a gateway."""

    def __init__(self, world):
        self.settings, self.database, self.audit = settings_of(world), world.database, world.audit
        self.identity = PrivateKey.from_bytes(keccak256(b"gateway"))
        self.clock = self.data_clock = ManualClock(START + DAY)
        self.random = lambda size: keccak256(str(len(world.steps.names)).encode())[:size]


def settings_of(world):
    path = world.folder / "worker.toml"
    path.write_text('[worker]\nname = "gateway"\n[store]\nurl = "month"\n[chain]\ndeployment = "31337.json"\n')
    return load_settings(path, {})


def test_move_in__killed_before_each_step__every_reading_is_in_the_lake_and_in_nothing_else(
    tmp_path, shared, monkeypatch
):
    monkeypatch.setattr(_lake_work, "Parquet", lambda: shared)
    kept = {"leaf": rows(0), "root": rows(0, (1,))}
    for fatal in range(1, 500):
        world = LakeWorld(tmp_path / f"{fatal}")
        for device, readings in kept.items():
            for time, values in readings:
                old_series(world.database).append(device, time, values)
        killed = world.killed(lambda _, world=world: Month(Host(world)), fatal)
        month = Month(Host(world))
        assert month.readings(None, why="test") == kept, fatal
        assert old_series(world.database).devices() == []
        world.stop()
        if not killed:
            break
    assert fatal > FEWEST
