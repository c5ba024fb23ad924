"""The streams that every method is run on, and the faults that are put into them.

Three stations some 20 km apart are taken for the devices of one site: further apart than devices of one site would be,
hence harder. Eleven stretches of a real year, four weeks apart: 30 days of reference, then 37 that are watched. A fault
goes into one device from a drawn moment on, into all six of its features at once: each feature is judged by itself, and
that is the single fault; whichever notices first is the joint one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from quietfleet.testbed.weather import load_weather

FEATURES: Final = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure")
HOUR: Final = 3600.0
DAY: Final = 24  # samples
REFERENCE: Final = 30 * DAY
WATCHED: Final = 37 * DAY
APART: Final = 28 * DAY
LATER: Final = 60 * DAY  # how old the reference is when a season has passed
STRETCHES: Final = 11
RAMP: Final = 14 * DAY
SOUND, SEASON = "sound", "season"
FAULTS: Final = ("shift", "scale", "gradual")

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stream:
    """What one device read [samples, features], its reference first; `site` are all devices', [devices, …]."""

    stretch: int
    device: int
    fault: str
    onset: int  # sample; the stream's length if there is no fault
    site: Array

    @property
    def values(self) -> Array:
        return np.asarray(self.site[self.device])


def streams(seed: int, stretches: int = STRETCHES, watched: int = WATCHED) -> list[Stream]:
    """Make every stream: sound ones, a season later, and one for each fault; NaN where a reading is missing."""
    year = whole_year()
    made = []
    for stretch in range(stretches):
        first = stretch * (STRETCHES // stretches) * APART
        sound = year[:, first : first + REFERENCE + watched]
        made += [Stream(stretch, device, SOUND, sound.shape[1], sound) for device in range(len(year))]
        later = first + REFERENCE + LATER
        if later + watched <= year.shape[1]:
            season = np.concatenate([sound[:, :REFERENCE], year[:, later : later + watched]], axis=1)
            made += [Stream(stretch, device, SEASON, season.shape[1], season) for device in range(len(year))]
        made += [spoilt(sound, stretch, device, fault, seed) for fault in FAULTS for device in range(len(year))]
    return made


def spoilt(sound: Array, stretch: int, device: int, fault: str, seed: int) -> Stream:
    """Put a fault into one device, from a moment within the second week that is watched on."""
    random = np.random.default_rng([seed, stretch, device, FAULTS.index(fault)])
    onset = REFERENCE + 7 * DAY + int(random.integers(0, 3 * DAY))
    sigma, mean = np.nanstd(sound[device, :REFERENCE], axis=0), np.nanmean(sound[device, :REFERENCE], axis=0)
    site = sound.copy()
    after = site[device, onset:]
    if fault == "shift":
        after += sigma
    elif fault == "scale":
        after += after - mean
    else:
        after += 2 * sigma * np.minimum(1.0, np.arange(len(after)) / RAMP)[:, None]
    return Stream(stretch, device, fault, onset, site)


def save(made: list[Stream], path: Path) -> None:
    """Write what a peer reads in its environment: streams [n, samples, features], and how long the reference is."""
    stretches = [stream.stretch for stream in made]
    np.savez_compressed(path, values=[stream.values for stream in made], stretch=stretches, reference=REFERENCE)


def whole_year() -> Array:
    """Every station's year, hour by hour: [stations, hours, features]."""
    stations = load_weather()
    begin = min(rows[0][0] for rows in stations.values()) // (DAY * HOUR) * DAY * HOUR
    year = np.full((len(stations), 365 * DAY, len(FEATURES)), np.nan)
    for line, (_, rows) in enumerate(sorted(stations.items())):
        for time, values in rows:
            place = int((time - begin) // HOUR)
            if 0 <= place < year.shape[1]:
                year[line, place] = [values.get(name, np.nan) for name in FEATURES]
    return year
