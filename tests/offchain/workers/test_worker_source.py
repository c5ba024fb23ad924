from __future__ import annotations

import pytest
from worker_world import HOUR

from quietfleet.clock import ManualClock
from quietfleet.errors import SettingsError
from quietfleet.workers._history import read_history
from quietfleet.workers._source import open_replay

DATA = 1_363_737_600.0  # 2013-03-20


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "readings.csv"
    rows = [f"{DATA + hour * HOUR},{hour}.5,{'' if hour == 2 else 60}" for hour in range(-1, 6)]
    path.write_text("time,temp,humid\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture
def clock():
    """The time of the data."""
    return ManualClock(DATA)


def hours(readings):
    return [(at - DATA) / HOUR for at, _ in readings]


def test_replay__time_passes__each_reading_once_in_its_time(recording, clock):
    replay = open_replay(recording, clock)
    clock.advance(2.5 * HOUR)
    assert hours(replay.due()) == [1, 2]
    assert replay.due() == []
    clock.advance(1.5 * HOUR)
    assert hours(replay.due()) == [3, 4]
    clock.advance(-2 * HOUR)
    assert replay.due() == [], "a clock set back brings nothing again"
    clock.advance(99 * HOUR)
    assert hours(replay.due()) == [5]


def test_replay__value_missing__absent_not_zero(recording, clock):
    replay = open_replay(recording, clock)
    clock.advance(2 * HOUR)
    assert [fields for _, fields in replay.due()] == [{"temp": 1.5, "humid": 60.0}, {"temp": 2.5}]


def test_replay__opened_late__what_was_slept_through_is_not_measured(recording, clock):
    clock.advance(3 * HOUR)
    replay = open_replay(recording, clock)
    clock.advance(HOUR)
    assert hours(replay.due()) == [4]


@pytest.mark.parametrize(
    "text",
    [None, "at,temp\n1,2\n", "time,temp\nnoon,2\n", "time,temp\n1,warm\n", "time,temp\n1,2,5\n", "time,temp\n1\n"],
)
def test_replay__no_such_recording__says_which_setting(tmp_path, clock, text):
    path = tmp_path / "readings.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=r"\[sensor\] replay"):
        open_replay(path, clock)


def test_history__until_a_date__what_came_before(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(f"device,time,temp,humid\nEWR,{DATA - 1},1,\nEWR,{DATA},2,50\n")
    assert read_history(path, "2013-03-20") == [("EWR", DATA - 1, {"temp": 1.0})]
    assert len(read_history(path, "")) == 2


@pytest.mark.parametrize("text", [None, "time,temp\n1,2\n", "device,time,temp\nEWR,noon,1\n"])
def test_history__unusable__says_which_setting(tmp_path, text):
    path = tmp_path / "history.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=r"\[gateway\] history"):
        read_history(path, "")
