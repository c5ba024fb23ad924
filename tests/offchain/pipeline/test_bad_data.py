"""Data that is wrong in a way that looks right."""

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from quietfleet.errors import DataRejected
from quietfleet.pipeline.ingest import ingest
from quietfleet.pipeline.run import run_pipeline
from quietfleet.pipeline.tables import read_table

NAMES = ("temp", "dewp", "humid", "wind_speed")


def changed(rows, **channels):
    return [(device, time, {**values, **channels}) for device, time, values in rows]


@pytest.fixture(scope="module")
def month(readings):
    return readings((1, 1), (2, 1))


@pytest.mark.parametrize("name", ["temp", "humid", "wind_speed"])
def test_run__a_channel_never_moves__is_refused_as_stuck(month, forecast, name):
    with pytest.raises(DataRejected, match="'stuck'"):
        run_pipeline(changed(month, **{name: 8.0}), forecast, seed=1, now=1.0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_run__a_required_channel_holds_no_number__is_refused_as_incomplete(month, forecast, wrong):
    with pytest.raises(DataRejected, match="'incomplete'"):
        run_pipeline(changed(month, dewp=wrong), forecast, seed=1, now=1.0)


def test_run__nan_in_a_field_nobody_named__is_left_out(month, january, forecast):
    assert ingest(changed(month, gust=math.nan), forecast).id == january.id


def test_run__one_device_only__is_trained_on_and_told_so(month, forecast):
    alone = run_pipeline([row for row in month if row[0] == "EWR"], forecast, seed=1, now=1.0)
    assert [group.name for group in alone.findings.examination.devices] == ["EWR"]
    assert len(alone.findings.curves) == 1


@pytest.mark.parametrize(("since", "until"), [((3, 1), (4, 1)), ((10, 20), (11, 20))])
def test_read__local_times_over_a_change_of_the_clock__no_hour_is_shifted(tmp_path, readings, forecast, since, until):
    rows, zone = readings(since, until), ZoneInfo("America/New_York")
    path = tmp_path / "local.csv"
    lines = [
        f"{device},{datetime.fromtimestamp(time, zone).isoformat()},{','.join(str(values.get(n, '')) for n in NAMES)}"
        for device, time, values in rows
    ]
    path.write_text("\n".join(("device,time," + ",".join(NAMES), *lines)))
    assert ingest(read_table(path, forecast), forecast).id == ingest(rows, forecast).id


def test_read__local_times_without_offset_in_autumn__the_doubled_hour_is_not_believed(tmp_path, readings, forecast):
    rows, zone = readings((10, 20), (11, 20)), ZoneInfo("America/New_York")
    path = tmp_path / "wall.csv"
    lines = [
        f"{device},{datetime.fromtimestamp(time, zone):%Y-%m-%d %H:%M:%S},"
        + ",".join(str(values.get(n, "")) for n in NAMES)
        for device, time, values in rows
    ]
    path.write_text("\n".join(("device,time," + ",".join(NAMES), *lines)))
    read = ingest(read_table(path, forecast, timezone="America/New_York"), forecast)
    truth = ingest(rows, forecast)
    assert 0 < len(truth) - len(read) <= 2 * len(truth.devices)
    places = zip(truth.time, truth.device, truth.columns["temp"], strict=True)
    known = {(int(time), truth.devices[device]): value for time, device, value in places}
    for time, device, value in zip(read.time, read.device, read.columns["temp"], strict=True):
        assert known[int(time), read.devices[device]] == value
