"""Files as loggers, clouds and data portals lay them out: the same readings come out of each, or it is refused."""

from __future__ import annotations

import gzip
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.errors import MonitorError
from quietfleet.monitor.sheet import read_sheet

START = 1_710_000_000.0 // 86_400 * 86_400  # 2024-03-09
HOURS = 48


def temp(hour, device=0):
    return round(15 + device + 5 * math.sin(hour / 4) + hour % 7 / 10, 1)


def humid(hour, device=0):
    return round(50 - device - 10 * math.sin(hour / 4) + hour % 5 / 10, 1)


def at(hour, form="%Y-%m-%d %H:%M:%S"):
    return datetime.fromtimestamp(START + 3600 * hour, UTC).strftime(form)


def comma(value):
    return str(value).replace(".", ",")


def rows(line, head="", tail=()):
    return "\n".join([*([head] if head else []), *(line(hour) for hour in range(HOURS)), *tail]) + "\n"


def each(line, head, names=("a", "b", "c")):
    lines = [line(hour, place, name) for hour in range(HOURS) for place, name in enumerate(names)]
    return "\n".join([head, *lines]) + "\n"


TWO = {"T": temp, "RH": humid}
ONE = {"temp": temp}

SINGLE = {
    "semicolons, decimal commas, empty columns and rows": (
        rows(
            lambda h: f"{at(h, '%d/%m/%Y')};{at(h, '%H.%M.%S')};{comma(temp(h))};{comma(humid(h))};;",
            "Date;Time;T;RH;;",
            [";;;;;"] * 5,
        ),
        TWO,
    ),
    "a header that does not name the first column": (
        rows(lambda h: f'"{h + 1}","{at(h)}",{temp(h)},{humid(h)}', '"date","T","RH"'),
        TWO,
    ),
    "a header in a comment": (
        rows(lambda h: f"{at(h)};{temp(h)};{humid(h)}", "# time;T;RH"),
        TWO,
    ),
    "comments before the header": (
        "# logger 7\n# exported today\n" + rows(lambda h: f"{at(h)},{temp(h)},{humid(h)}", "time,T,RH"),
        TWO,
    ),
    "names that begin with numbers": (
        rows(lambda h: f"{at(h)},{temp(h)},{humid(h)}", "time,10cm,2m temp"),
        {"10cm": temp, "2m temp": humid},
    ),
    "no header at all": (
        rows(lambda h: f"{at(h)},{temp(h)},{humid(h)}"),
        {"column1": temp, "column2": humid},
    ),
    "units behind the numbers": (
        rows(lambda h: f"{at(h)},{temp(h)} °C,{humid(h)}%", "time,T,RH"),
        TWO,
    ),
    "month first, twelve hours": (
        rows(lambda h: f"{at(h, '%m/%d/%Y %I:%M %p')},{temp(h)}", "when,temp"),
        ONE,
    ),
    "hours by both their ends": (
        rows(lambda h: f"{at(h, '%d/%m/%Y')},{h % 24}:00-{h % 24}:59,{temp(h)}", "Date,Hour,temp"),
        ONE,
    ),
    "months by name": (rows(lambda h: f"{at(h, '%d-%b-%Y %H:%M:%S')},{temp(h)}", "when,temp"), ONE),
    "zone named": (rows(lambda h: f"{at(h)} UTC,{h},{temp(h)}", "created_at,entry_id,temp"), ONE),
    "offset": (
        rows(
            lambda h: (
                datetime.fromtimestamp(START + 3600 * h + 7200, UTC).strftime("%Y-%m-%dT%H:%M:%S+02:00") + f",{temp(h)}"
            ),
            "t,temp",
        ),
        ONE,
    ),
    "nanoseconds": (rows(lambda h: f"{at(h, '%Y-%m-%dT%H:%M:%S')}.000000000Z,{temp(h)}", "received_at,temp"), ONE),
    "Unix nanoseconds": (rows(lambda h: f"{int(START + 3600 * h)}000000000,{temp(h)}", "ts,temp"), ONE),
    "thousands parted": (
        rows(lambda h: f'{at(h)},"{1000 + h % 9:,}.5"', "time,pressure"),
        {"pressure": lambda h: 1000.5 + h % 9},
    ),
    "not measured, twice": (
        rows(lambda h: f"{at(h)},{-9999.0 if h in (7, 9) else temp(h)}", "time,temp"),
        {"temp": lambda h: None if h in (7, 9) else temp(h)},
    ),
    "question marks": (
        rows(lambda h: f"{at(h)};{'?' if h == 7 else temp(h)}", "time;temp"),
        {"temp": lambda h: None if h == 7 else temp(h)},
    ),
}


@pytest.fixture
def read(tmp_path):
    def read(text, name="readings.csv", encoding="utf-8", **options):
        path = tmp_path / name
        data = text.encode(encoding)
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return read_sheet(path, **options)

    return read


def truth(channels, device=0):
    found = []
    for hour in range(HOURS):
        values = {name: of(hour, device) if device else of(hour) for name, of in channels.items()}
        values = {name: value for name, value in values.items() if value is not None}
        found += [(START + 3600 * hour, values)] if values else []
    return found


@pytest.mark.parametrize("layout", SINGLE)
def test_read__one_device_however_laid_out__is_the_same_readings(read, layout):
    text, channels = SINGLE[layout]
    sheet = read(text)
    assert sheet.readings == {"device": truth(channels)}


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("utf-8-sig", "a.csv"), ("latin-1", "a.csv"), ("utf-16", "a.csv"), ("utf-8", "a.csv.gz"), ("latin-1", "a.txt.gz")],
)
def test_read__encoded_or_packed_otherwise__is_the_same_readings(read, encoding, name):
    sheet = read(rows(lambda h: f"{at(h)},{temp(h)},{humid(h)}", "time,T (°C),RH"), name, encoding)
    assert sheet.channels == ("T (°C)", "RH")
    assert sheet.readings["device"] == truth({"T (°C)": temp, "RH": humid})


SEVERAL = {
    "a column a device": each(lambda h, n, name: f"{at(h)},{name},{temp(h, n)}", "time,station,temp"),
    "devices by a name nobody knows, beside whole numbers": each(
        lambda h, n, name: f"{at(h)},{900 + n + h % 40},{temp(h, n)},{name}",
        "when,luftdruck,temp,vlinder",
    ),
    "year, month, day, hour": each(
        lambda h, n, name: f"{h},{at(h, '%Y,%m,%d,%H')},{temp(h, n)},{'NW' if h % 2 else 'E'},{name}",
        "No,year,month,day,hour,temp,wd,station",
    ),
    "annotated": "#group,false,false,true,true,false,false,true,true,true\n#datatype,string,long,t,t,t,double,s,s,s\n"
    "#default,_result,,,,,,,,\n"
    + each(
        lambda h, n, name: (
            f",,{n},2024-01-01T00:00:00Z,2025-01-01T00:00:00Z,"
            f"{at(h, '%Y-%m-%dT%H:%M:%SZ')},{temp(h, n)},temp,env,{name}"
        ),
        ",result,table,_start,_stop,_time,_value,_field,_measurement,device",
    ),
    "entities": each(
        lambda h, n, name: (
            f"sensor.{name}_temp,{'unavailable' if h == 99 else temp(h, n)},{at(h, '%Y-%m-%dT%H:%M:%S')}.000Z\n"
            f"sensor.{name}_humid,{humid(h, n)},{at(h, '%Y-%m-%dT%H:%M:%S')}.000Z"
        ),
        "entity_id,state,last_changed",
    ),
}


@pytest.mark.parametrize("layout", SEVERAL)
def test_read__several_devices_however_laid_out__are_told_apart(read, layout):
    sheet = read(SEVERAL[layout])
    channels = ONE | ({"humid": humid} if layout == "entities" else {})
    channels |= {"luftdruck": lambda h, n=0: 900 + n + h % 40} if "luftdruck" in sheet.channels else {}
    assert sheet.readings == {name: truth(channels, place) for place, name in enumerate("abc")}


def wide(of, stems=("temp",), devices=3):
    head = ",".join(["time", *(f"{stem}_{n + 1}" for stem in stems for n in range(devices))])
    return rows(lambda h: ",".join([at(h), *(str(of(stem, h, n)) for stem in stems for n in range(devices))]), head)


def test_read__numbered_columns_that_read_alike__are_devices_side_by_side_and_that_is_said(read):
    sheet = read(wide(lambda stem, h, n: temp(h, n) if stem == "temp" else humid(h, n), ("temp", "rh")))
    assert sheet.readings == {str(n + 1): truth({"temp": temp, "rh": humid}, n) for n in range(3)}
    assert (sheet.wide, sheet.apart_by) == (True, "by column")
    assert any("temp_1" in note and "3 devices" in note for note in sheet.notes)


def test_read__numbered_columns_of_several_things__are_channels_of_one_device(read):
    sheet = read(wide(lambda _, h, n: [temp(h), humid(h), 1000 + h % 3][n]))
    assert list(sheet.readings) == ["device"]
    sizes = read(rows(lambda h: f"{at(h)},{h % 5},{h % 6},{h % 7}", "time,pm1,pm25,pm10"))
    assert sizes.channels == ("pm1", "pm25", "pm10")


def test_read__columns_are_devices_or_not__as_is_said(read):
    text = rows(lambda h: f"{at(h)},{temp(h)},{temp(h, 1)},{temp(h, 2)}", "time,north,south,roof")
    assert list(read(text).readings) == ["device"]
    assert read(text, wide=True).readings["roof"] == truth({"value": lambda h: temp(h, 2)})
    assert list(read(wide(lambda _, h, n: temp(h, n)), wide=False).readings) == ["device"]


def test_read__one_of_several_has_a_gap__is_its_own_gap(read):
    sheet = read(wide(lambda _, h, n: "" if n == 2 and h in (5, 6) else temp(h, n)))
    assert [len(sheet.readings[name]) for name in "123"] == [HOURS, HOURS, HOURS - 2]
    assert sheet.refused == {}


@pytest.mark.parametrize("days", [[5, 6, 7, 8], [8, 7, 6, 5]])
def test_read__day_or_month_first_cannot_be_told__is_said(read, days):
    text = "when,temp\n" + "".join(f"{day:02}/{day:02}/2024 {h:02}:00,{temp(h)}\n" for day in days for h in range(24))
    assert any("days or months" in note for note in read(text).notes)


def test_read__only_text__names_the_option_that_helps(read):
    with pytest.raises(MonitorError, match="--time"):
        read("a,b\nx,y\nz,w\n")


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"\x00\x01\x02" * 999, b"\xff\xd8\xff\xe0" + bytes(range(256)) * 9, b"{}"]
)
@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.csv.gz"])
def test_read__no_table_at_all__is_refused(tmp_path, data, name):
    path = Path(tmp_path / name)
    path.write_bytes(data)
    with pytest.raises(MonitorError):
        read_sheet(path)


FORMS = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", ""]
HEADS = {"tidy": ["when", "dev", "t", "h"], "single": ["when", "t", "h"], "long": ["when", "dev", "metric", "value"]}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_read__anything_of_ours_in_any_layout__comes_back_or_is_refused(tmp_path_factory, data):
    """Never something silently different."""
    separator = data.draw(st.sampled_from([",", ";", "\t", "|"]))
    decimal = data.draw(st.sampled_from([".", ","] if separator != "," else ["."]))
    form = data.draw(st.sampled_from(FORMS))
    layout = data.draw(st.sampled_from(sorted(HEADS)))
    hours = data.draw(st.integers(30, 60))  # so that more than twelve days of a month are seen below
    step = 12 * 3600
    value = st.floats(-50, 150).map(lambda number: round(number, 2))
    names = ["single"] if layout == "single" else ["a1", "b2"]
    told = {name: [(data.draw(value), data.draw(value)) for _ in range(hours)] for name in names}

    def number(one):
        return f"{one:.2f}".replace(".", decimal)

    def moment(place):
        seconds = START + step * place
        return f"{seconds:.0f}" if not form else datetime.fromtimestamp(seconds, UTC).strftime(form)

    lines = [separator.join(HEADS[layout])]
    for place in range(hours):
        for name in names:
            t, h = map(number, told[name][place])
            if layout == "long":
                lines += [separator.join([moment(place), name, *pair]) for pair in (("t", t), ("h", h))]
            else:
                lines.append(separator.join([moment(place), *([name] if layout == "tidy" else []), t, h]))
    path = tmp_path_factory.mktemp("any") / "readings.csv"
    path.write_text("\n".join(lines) + "\n")
    try:
        sheet = read_sheet(path)
    except MonitorError:
        return
    for name in names:
        read = sheet.readings["device" if layout == "single" else name]
        assert [at for at, _ in read] == [START + step * place for place in range(hours)]
        for (t, h), (_, values) in zip(told[name], read, strict=True):
            for channel, one in (("t", t), ("h", h)):
                assert values.get(channel, one) == one or channel in sheet.left_out
