"""Devices that a file tells apart without a column that says so: side by side, or in the names of what was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from quietfleet.monitor.drift import Array

_NUMBERED: Final = re.compile(r"(.*?)[\s_.#-]*(\d{1,4})")
_ENTITY: Final = re.compile(r"[a-z_]+\.([a-z0-9_]+)_([a-z0-9]+)")
_LEAST: Final = 3
_APART: Final = 2.0  # spreads, by which what devices of one place measure may differ


def side_by_side(columns: Mapping[str, Array]) -> dict[str, tuple[str, str]]:
    """Return the device and the channel of each column, where columns such as `temp_1`, `temp_2`, `temp_3` are several.

    Numbers must count up from 0 or 1, be the same for each channel, and what they number read alike: eight fields of
    one device, or particles of three sizes, are none. Columns without a number are of a device of their own.
    """
    groups: dict[str, dict[int, str]] = {}
    for name in columns:
        found = _NUMBERED.fullmatch(name.strip())
        if found is not None and found[1]:
            groups.setdefault(found[1], {})[int(found[2])] = name
    groups = {stem: numbered for stem, numbered in groups.items() if len(numbered) >= _LEAST}
    if not groups or len({frozenset(numbered) for numbered in groups.values()}) > 1:
        return {}
    numbers = sorted(next(iter(groups.values())))
    if numbers[0] > 1 or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return {}
    if not all(_alike([columns[name] for name in numbered.values()]) for numbered in groups.values()):
        return {}
    told = {name: (str(number), stem) for stem, numbered in groups.items() for number, name in numbered.items()}
    return {name: told.get(name, ("beside", name)) for name in columns}


def each_its_own(columns: Mapping[str, Array]) -> dict[str, tuple[str, str]]:
    """Take each column for a device, all of one channel: what is said, not guessed."""
    return {name: (name, "value") for name in columns}


def entities(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return device and channel of names such as `sensor.kitchen_temperature`; empty where not all are such names."""
    distinct = set(labels)
    found = {label: _ENTITY.fullmatch(label) for label in distinct}
    if len({one[2] for one in found.values() if one}) < 2 or not all(found.values()):  # noqa: PLR2004 - one is a channel
        return []
    return [(one[1], one[2]) for label in labels if (one := found[label])]


def _alike(several: Sequence[Array]) -> bool:
    known = [values[np.isfinite(values)] for values in several]
    if not all(values.size for values in known):
        return False
    middles = [float(np.median(values)) for values in known]
    spread = float(np.median([np.subtract(*np.quantile(values, (0.95, 0.05))) for values in known]))
    return max(middles) - min(middles) <= _APART * spread
