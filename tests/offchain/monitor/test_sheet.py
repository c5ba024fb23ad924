"""Files as people have them: which column is what, guessed and said."""

import pytest

from quietfleet.errors import MonitorError
from quietfleet.monitor.sheet import read_sheet

HOURS = 60


@pytest.fixture
def sheet(tmp_path):
    def sheet(lines, name="readings.csv", **options):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return read_sheet(path, **options)

    return sheet


def stamp(hour, form="{:04}-{:02}-{:02} {:02}:{:02}:00"):
    return form.format(2020, 3, 1 + hour // 24, hour % 24, 0)


START = 1_583_020_800.0  # 2020-03-01


@pytest.mark.parametrize(
    ("head", "written"),
    [
        ("time", stamp),
        ("timestamp", lambda hour: stamp(hour, "{:04}-{:02}-{:02}T{:02}:{:02}:00Z")),
        ("ts", lambda hour: f"{START + 3600 * hour:.0f}"),
        ("epoch", lambda hour: f"{1000 * (START + 3600 * hour):.0f}"),
        ("when", lambda hour: f"{1 + hour // 24}.03.2020 {hour % 24:02}:00"),
        ("date,time", lambda hour: f"{stamp(hour)[:10]},{stamp(hour)[11:]}"),
        ("Date,Time", lambda hour: f"{1 + hour // 24:02}/03/2020,{hour % 24:02}.00.00"),
        ("year,month,day,hour", lambda hour: f"2020,3,{1 + hour // 24},{hour % 24}"),
    ],
)
def test_read__times_however_written__are_the_same_moments(sheet, head, written):
    found = sheet([f"{head},temp", *(f"{written(hour)},{10 + hour % 7}.5" for hour in range(HOURS))])
    assert [at for at, _ in found.readings["device"]] == [START + 3600 * hour for hour in range(HOURS)]
    assert (found.channels, found.device, found.period) == (("temp",), "", 3600.0)


@pytest.mark.parametrize("head", ["sensor", "moteid", "whatever"])
def test_read__several_devices_at_one_moment__are_told_apart(sheet, head):
    lines = [f"{stamp(hour)},{name},{hour % 5}" for hour in range(HOURS) for name in ("a7", "b8", "c9")]
    found = sheet([f"time,{head},temp", *lines])
    assert (found.device, list(found.readings), found.rows) == (head, ["a7", "b8", "c9"], 3 * HOURS)


def test_read__a_row_for_each_value__is_one_reading_a_moment(sheet):
    lines = [f"{stamp(h)},a,{name},{h % 5}" for h in range(HOURS) for name in ("temp", "hum")]
    found = sheet(["time,device,parameter,value", *lines])
    assert (found.channels, found.names, found.rows) == (("temp", "hum"), "parameter", HOURS)
    assert found.readings["a"][1][1] == {"temp": 1.0, "hum": 1.0}


def test_read__decimal_commas_and_placeholders__are_understood_and_told(sheet):
    lines = [f"{stamp(h)};{'-200' if h % 10 == 0 else f'{10 + h % 7},5'};12,0" for h in range(HOURS)]
    found = sheet(["time;co;rh", *lines])
    values = [values.get("co") for _, values in found.readings["device"]]
    assert (values[0], values[1]) == (None, 11.5)
    assert [note for note in found.notes if "-200" in note]


def test_read__columns_that_measure_nothing__are_left_out_with_a_reason(sheet):
    lines = [f"{stamp(h)},{h},{100 + h},40.5,ok,{h % 5}" for h in range(HOURS)]
    found = sheet(["time,row,energy_total,latitude,comment,temp", *lines])
    assert found.channels == ("temp",)
    assert set(found.left_out) == {"row", "energy_total", "latitude", "comment"}


def test_read__what_the_columns_are_is_said__is_believed(sheet):
    lines = [f"{h * 60},{h % 3},{h % 5}" for h in range(HOURS)]
    found = sheet(["minute,unit,temp", *lines], time="minute", device="unit", channels=["temp"])
    assert (found.time, sorted(found.readings), found.channels) == ("minute", ["0", "1", "2"], ("temp",))


@pytest.mark.parametrize(
    ("lines", "options", "why"),
    [
        (["a,b", "1,2"], {}, "no column holds times"),
        (["time,note", "2020-03-01 00:00:00,hot"], {}, "no column holds measurements"),
        (["time,temp"], {}, "no rows"),
        (["time,temp", "2020-03-01 00:00:00,1"], {"device": "who"}, "no column who"),
        (["time,temp", "2020-03-01 00:00:00,1"], {}, "one reading"),
    ],
)
def test_read__what_cannot_be_watched__says_what_is_missing(sheet, lines, options, why):
    with pytest.raises(MonitorError, match=why):
        sheet(lines, **options)


def test_read__neither_csv_nor_parquet__is_refused(sheet):
    with pytest.raises(MonitorError, match=r"neither \.csv nor \.parquet"):
        sheet(["x"], "readings.xlsx")


def test_read__every_row_twice__devices_are_told_apart_all_the_same(sheet):
    lines = [f"{stamp(hour)},{name},{hour % 5}" for hour in range(HOURS) for name in ("a7", "b8", "c9")]
    found = sheet(["time,whatever,temp", *lines, *lines])
    assert (found.device, found.rows) == ("whatever", 3 * HOURS)


def test_read__infinite_and_beyond_any_sensor__taken_as_not_measured(sheet):
    lines = [f"{stamp(hour)},{['inf', '1e300', '2.5', '3.5'][hour % 4]}" for hour in range(HOURS)]
    found = sheet(["time,temp", *lines])
    assert {values["temp"] for _, values in found.readings["device"]} == {2.5, 3.5}
