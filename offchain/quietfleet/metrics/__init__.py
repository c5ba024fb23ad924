"""Counters and gauges every worker exposes, in the text format every monitoring system reads.

Written by hand, as that takes less than a page: the usual library takes 4 MB of a sensor's memory for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["Metrics"]

_PREFIX: Final = "quietfleet_"
_COUNTED: Final = "_total"

_Labels = tuple[tuple[str, str], ...]


class Metrics:
    """One worker's numbers; a metric exists from its first use."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[_Labels, float]] = {}
        self._gauges: dict[str, dict[_Labels, float]] = {}

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        """Add `n` to a counter; ValueError if it is negative."""
        if n < 0:
            raise ValueError(f"{name}: a counter only grows")
        values, key = self._counters.setdefault(name, {}), _key(labels)
        values[key] = values.get(key, 0.0) + n

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._gauges.setdefault(name, {})[_key(labels)] = float(value)

    def value(self, name: str, **labels: str) -> float:
        """Return a counter's or gauge's value; 0 if it was never used."""
        values = self._counters.get(name) or self._gauges.get(name, {})
        return values.get(_key(labels), 0.0)

    def write(self, path: Path) -> None:
        """Write everything to a text file, replaced whole so that no collector reads half of it."""
        scratch = path.with_name(f"{path.name}.{os.getpid()}")
        scratch.write_text("".join(self._lines()))
        scratch.replace(path)

    def _lines(self) -> Iterator[str]:
        for name, values in self._counters.items():
            yield from _metric(_PREFIX + name + _COUNTED, name, "counter", values)
        for name, values in self._gauges.items():
            yield from _metric(_PREFIX + name, name, "gauge", values)


def _key(labels: dict[str, str]) -> _Labels:
    return tuple(sorted(labels.items())) if len(labels) > 1 else tuple(labels.items())


def _metric(full: str, name: str, kind: str, values: dict[_Labels, float]) -> Iterator[str]:
    yield f"# HELP {full} {name}\n# TYPE {full} {kind}\n"
    for labels, value in values.items():
        shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        yield f"{full}{{{shown}}} {value}\n" if labels else f"{full} {value}\n"


def _escaped(text: object) -> str:
    """Write a label's value so that it ends where it ends (Prometheus' text format, version 0.0.4)."""
    return str(text).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
