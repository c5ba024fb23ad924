"""Real recordings of other sensors, on which nothing of ours was settled: wind turbines, roofs, stations, counters.

They come in packages that are installed for their data alone (`requirements/drift-data.txt`), with all that is missing
or wrong in the source; only the stamps are put on a grid of the sensors' own period.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from bench.drift.streams import Array

FOLDER: Final = Path(__file__).parents[2] / ".venv-drift" / "data"
DAY: Final = 86_400.0
_ROOFS: Final = 17

Value = tuple[str, float, dict[str, str]]
"""A device, Unix seconds, and what is written of its channels."""


@dataclass(frozen=True, eq=False)
class Recording:
    """What devices of one place read: values [devices, samples, channels], NaN where there is none.

    `since` is the first sample's time in Unix seconds; `learned` and `watched` are days, of each stretch that is cut
    out of it, `apart` days from one to the next. `angles` are the channels that are degrees of a circle.
    """

    name: str
    devices: tuple[str, ...]
    channels: tuple[str, ...]
    period: float
    since: float
    values: Array
    learned: int = 30
    watched: int = 37
    apart: int = 28
    angles: tuple[str, ...] = ()


def recordings() -> list[Recording]:
    """Read all of them; ends the program where they are not installed."""
    if not (FOLDER / "quietfleet-setup").exists():
        raise SystemExit("the recordings are not installed: run tools/drift-peers (`make bench-drift` does)")
    return [turbines(), stations(), roofs(), counters()]


def turbines() -> Recording:
    """Four wind turbines side by side, La Haute Borne in France, 2014 and 2015 (ENGIE, Licence Ouverte 2.0)."""
    channels = {
        "power": "P_avg",
        "wind speed": "Ws_avg",
        "temperature": "Ot_avg",
        "pitch": "Ba_avg",
        "wind direction": "Wa_avg",
    }
    packed = zipfile.ZipFile(next(FOLDER.rglob("la_haute_borne.zip")))
    text = packed.read("la-haute-borne-data-2014-2015.csv").decode()
    values = [
        (row["Wind_turbine_name"], datetime.fromisoformat(row["Date_time"]).timestamp(), row)
        for row in csv.DictReader(io.StringIO(text))
    ]
    return _gridded("wind turbines", values, channels, 600.0, apart=84)


def stations() -> Recording:
    """28 weather stations around Ghent, fifteen days of September 2022 (VLINDER, MIT)."""
    channels = {
        "temperature": "Temperatuur",
        "humidity": "Vochtigheid",
        "pressure": "Luchtdruk",
        "wind speed": "Windsnelheid",
        "wind direction": "Windrichting",
        "rain": "Neerslagintensiteit",
    }
    text = next(FOLDER.rglob("demo_datafile.csv")).read_text()
    values = [
        (row["Vlinder"], _utc(f"{row['Datum']}T{row['Tijd (UTC)']}"), row)
        for row in csv.DictReader(io.StringIO(text), delimiter=";")
    ]
    return _gridded("city weather stations", values, channels, 300.0, learned=7, watched=8)


def roofs() -> Recording:
    """The solar panels of 17 houses of one neighbourhood in California, a year (CityLearn, MIT).

    Most follow one another to a percent, one makes nothing, and some part from the rest for weeks.
    """
    folder = next(FOLDER.rglob("citylearn_challenge_2022_phase_all"))
    values = [
        (f"roof {roof:02}", place * 3600.0, row)
        for roof in range(1, _ROOFS + 1)
        for place, row in enumerate(csv.DictReader(io.StringIO((folder / f"Building_{roof}.csv").read_text())))
    ]
    return _gridded("solar roofs", values, {"power": "Solar Generation [W/kW]"}, 3600.0)


def counters() -> Recording:
    """Counters of passers-by in the middle of Auckland, 2023 and 2024 (Heart of the City, CC BY 4.0)."""
    text = next(FOLDER.rglob("hourly_counts.csv")).read_text()
    values: list[Value] = []
    for row in csv.DictReader(io.StringIO(text)):
        if row["year"] not in ("2023", "2024"):
            continue
        hour = int(row["hour"].split(":")[0])
        time = _utc(f"{row['date']}T{hour:02}:00:00")
        values += [(name, time, {"count": cell}) for name, cell in row.items() if name not in ("date", "hour", "year")]
    return _gridded("street counters", values, {"count": "count"}, 3600.0, apart=84)


def _utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _gridded(
    name: str,
    values: Iterable[Value],
    columns: dict[str, str],
    period: float,
    learned: int = 30,
    watched: int = 37,
    apart: int = 28,
) -> Recording:
    lines = list(values)
    devices = tuple(sorted({device for device, _, _ in lines}))
    place = {device: line for line, device in enumerate(devices)}
    since = min(time for _, time, _ in lines) // DAY * DAY
    slots = int((max(time for _, time, _ in lines) - since) // period) + 1
    grid = np.full((len(devices), slots, len(columns)), np.nan)
    for device, time, row in lines:
        for channel, column in enumerate(columns.values()):
            if row[column]:
                grid[place[device], int((time - since) // period), channel] = float(row[column])
    angles = tuple(channel for channel in columns if channel.endswith("direction"))
    return Recording(name, devices, tuple(columns), period, since, grid, learned, watched, apart, angles)
