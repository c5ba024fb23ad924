"""Counters and gauges every worker exposes, in the text format every monitoring system reads."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, write_to_textfile

__all__ = ["Metrics"]

_PREFIX: Final = "quietfleet_"


class Metrics:
    """One worker's numbers; a metric exists from its first use, with that use's label names."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._counted: dict[tuple[object, ...], Counter] = {}  # with their labels, as finding them costs most
        self._gauges: dict[str, Gauge] = {}

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        """Add `n` to a counter."""
        key = (name, *labels.items())
        if key not in self._counted:
            self._counted[key] = self._counter(name, labels)
        self._counted[key].inc(n)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(_PREFIX + name, name, tuple(labels), registry=self._registry)
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def value(self, name: str, **labels: str) -> float:
        """Return a counter's or gauge's value; 0 if it was never used."""
        sample = _PREFIX + name + ("_total" if name in self._counters else "")
        return self._registry.get_sample_value(sample, labels) or 0.0

    def _counter(self, name: str, labels: dict[str, str]) -> Counter:
        if name not in self._counters:
            self._counters[name] = Counter(_PREFIX + name, name, tuple(labels), registry=self._registry)
        return self._counters[name].labels(**labels) if labels else self._counters[name]

    def write(self, path: Path) -> None:
        """Write everything to a text file, replaced whole so that no collector reads half of it."""
        write_to_textfile(str(path), self._registry)
