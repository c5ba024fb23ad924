import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.errors import CryptoError, StorageError
from quietfleet.storage import Database, SealedColumn, TimeSeries

DAY = 86_400
START = 1_700_000_000.0 // DAY * DAY
WEEK = 7 * DAY
SECRET = 31337.515625


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "worker.db") as opened:
        yield opened


@pytest.fixture
def series(database):
    return TimeSeries(database, WEEK)


def everything_on_disk(database):
    return b"".join(file.read_bytes() for file in database.path.parent.iterdir())


def test_append__same_device_and_time_again__keeps_the_first(series):
    assert series.append("a", START, {"temp": 1.0})
    assert not series.append("a", START, {"temp": 2.0})
    assert series.append("b", START, {"temp": 3.0})
    assert series.window("a", START, START + 1) == [(START, {"temp": 1.0})]


def test_window__days_apart__is_half_open_and_ordered(series):
    times = [START + hours * 3600.0 for hours in (50, 0, 24, 23, 49)]
    for time in times:
        series.append("a", time, {"temp": time})
    found = [time for time, _ in series.window("a", START + 23 * 3600, START + 50 * 3600)]
    assert found == [START + hours * 3600.0 for hours in (23, 24, 49)]
    assert series.count("a", START + 23 * 3600, START + 50 * 3600) == 3
    assert series.count("b", START, START + WEEK) == 0


@pytest.mark.parametrize("time", [-1.0, float("nan"), float("inf"), 1e15])
def test_append__impossible_time__is_refused(series, time):
    with pytest.raises(StorageError):
        series.append("a", time, {"temp": 1.0})


def test_append__value_is_not_a_number__is_refused_and_leaves_nothing(series):
    with pytest.raises(ValueError):
        series.append("a", START, {"temp": float("nan")})
    assert series.devices() == []


def test_erase__past_retention__leaves_no_byte_in_file_or_log(database, series):
    for hour in range(72):
        series.append(f"device-{hour % 3}", START + hour * 3600.0, {"temp": SECRET, "hour": float(hour)})
    assert str(SECRET).encode() in everything_on_disk(database)
    assert series.erase(START + 72 * 3600 + WEEK) == 72
    assert str(SECRET).encode() not in everything_on_disk(database)


def test_erase__cutoff_inside_a_day__erases_exactly_what_is_past_it_physically(database, series):
    for hour in range(48):
        series.append("a", START + hour * 3600.0, {"temp": SECRET if hour < 30 else 1.0})
    assert series.erase(START + 30 * 3600 + WEEK) == 30
    assert [time for time, _ in series.window("a", 0, START + WEEK)] == [START + h * 3600.0 for h in range(30, 48)]
    assert str(SECRET).encode() not in everything_on_disk(database)


def test_erase__nothing_old__erases_nothing(series):
    series.append("a", START, {"temp": 1.0})
    assert series.erase(START + WEEK) == 0
    assert len(series.window("a", START, START + 1)) == 1


def test_forget__one_device__leaves_the_others_and_no_byte_of_it(database, series):
    for hour in range(48):
        series.append("gone", START + hour * 3600.0, {"temp": SECRET})
        series.append("stays", START + hour * 3600.0, {"temp": 1.0})
    assert series.forget("gone") == 48
    assert series.devices() == ["stays"]
    assert len(series.window("stays", START, START + 2 * DAY)) == 48
    assert b"gone" not in everything_on_disk(database)


def test_window__reopened_database__still_has_everything(database, series):
    series.append("a", START, {"temp": 1.0})
    assert TimeSeries(database, WEEK).window("a", START, START + 1) == [(START, {"temp": 1.0})]


def test_append__sealed__is_unreadable_on_disk_and_reads_back(database):
    series = TimeSeries(database, WEEK, sealed=SealedColumn(bytes(32), "series.body"))
    series.append("a", START, {"temp": SECRET})
    assert str(SECRET).encode() not in everything_on_disk(database)
    assert series.window("a", START, START + 1) == [(START, {"temp": SECRET})]


def test_window__sealed_value_moved_to_another_row__is_refused(database):
    series = TimeSeries(database, WEEK, sealed=SealedColumn(bytes(32), "series.body"))
    series.append("a", START, {"temp": 1.0})
    series.append("b", START, {"temp": 2.0})
    swap = "UPDATE series_DAY SET body = (SELECT body FROM series_DAY WHERE device = 'b') WHERE device = 'a'"
    database.execute(swap.replace("DAY", str(int(START // DAY))))
    with pytest.raises(CryptoError):
        series.window("a", START, START + 1)


def test_open__value_sealed_for_another_column__is_refused():
    sealed = SealedColumn(bytes(32), "one", os.urandom).seal(b"value", row=b"1")
    with pytest.raises(CryptoError):
        SealedColumn(bytes(32), "two").open(sealed, row=b"1")


@settings(max_examples=25, deadline=None)
@given(
    readings=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12 * 24)), max_size=40),
    cut=st.integers(0, 20 * 24),
)
def test_erase__any_readings_and_time__keeps_what_a_plain_model_keeps(tmp_path_factory, readings, cut):
    model = {}
    now = START + cut * 3600.0
    with Database(tmp_path_factory.mktemp("series") / "worker.db") as database:
        series = TimeSeries(database, WEEK)
        for device, hour in readings:
            series.append(device, START + hour * 3600.0, {"hour": float(hour)})
            model[device, START + hour * 3600.0] = {"hour": float(hour)}
        old = {key for key in model if key[1] < now - WEEK}
        assert series.erase(now) == len(old)
        kept = {(d, t): v for d in "abc" for t, v in series.window(d, 0, START + 365 * DAY)}
    assert kept == {key: value for key, value in model.items() if key not in old}
