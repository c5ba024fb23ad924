"""Data drift in percent: 100 · W1(window, reference) / sigma of the reference, per feature.

This is our reading of the paper's "70 percent" (section V): a mean shift of half a sigma reads 50 %, and a sensor stuck
at the reference's mean reads 80 %. The reference travels inside a release as a sketch, so that no raw data does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from quietfleet.errors import MonitorError

DRIFTED_PCT: Final = 70.0
"""From here on data has drifted (paper section V)."""
ANOMALOUS_PCT: Final = 200.0
"""Beyond this the paper's "drastic or anomalous" begins: verify the input first."""
CEILING_PCT: Final = 10_000.0
"""A reference that never moved makes any change infinite; this keeps it a number that travels."""
ATOMS: Final = 100
_DECIMALS: Final = 5
_LEVELS: Final = (np.arange(ATOMS) + 0.5) / ATOMS
_RECHECK_PCT: Final = 5.0
_BLOCK: Final = 32  # devices

Array = npt.NDArray[np.float64]


class Band(StrEnum):
    """How far a drift has gone."""

    FINE = "fine"
    DRIFTED = "drifted"
    ANOMALOUS = "anomalous"


def band(percent: float) -> Band:
    """Name the band a drift in percent falls into."""
    if percent > ANOMALOUS_PCT:
        return Band.ANOMALOUS
    return Band.DRIFTED if percent >= DRIFTED_PCT else Band.FINE


def wasserstein(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """First Wasserstein distance of two samples of any sizes, exactly, in the samples' unit."""
    first, second = np.sort(_finite(a)), np.sort(_finite(b))
    merged = np.sort(np.concatenate([first, second]))
    steps = np.diff(merged)
    below_first = np.searchsorted(first, merged[:-1], side="right") / first.size
    below_second = np.searchsorted(second, merged[:-1], side="right") / second.size
    return float(np.sum(np.abs(below_first - below_second) * steps))


@dataclass(frozen=True, slots=True)
class FeatureBaseline:
    """One feature's reference: its moments and `ATOMS` equally likely values at the middles of its quantiles."""

    mean: float
    std: float
    n: int
    quantiles: tuple[float, ...]

    @classmethod
    def fit(cls, sample: npt.ArrayLike, *, floor: float = 0.0) -> Self:
        """Sketch a sample; `floor` is the least believable sigma, such as the sensor's resolution."""
        values = _finite(sample)
        atoms = np.quantile(values, _LEVELS).round(_DECIMALS)
        return cls(
            mean=round(float(values.mean()), _DECIMALS),
            std=round(max(float(values.std()), floor), _DECIMALS),
            n=int(values.size),
            quantiles=tuple(float(atom) for atom in atoms),
        )

    def to_plain(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std, "n": self.n, "quantiles": list(self.quantiles)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild a sketch that came over the network; `MonitorError` when it is none."""
        try:
            quantiles = tuple(float(value) for value in plain["quantiles"])
            sketch = cls(float(plain["mean"]), float(plain["std"]), int(plain["n"]), quantiles)
        except (KeyError, TypeError, ValueError) as error:
            raise MonitorError(f"not a feature baseline: {error!r}") from None
        if len(quantiles) != ATOMS or sketch.std < 0 or not np.isfinite([*quantiles, sketch.mean, sketch.std]).all():
            raise MonitorError("not a feature baseline: wrong size or values")
        return sketch


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a model was trained on, feature by feature."""

    features: Mapping[str, FeatureBaseline]

    @classmethod
    def fit(cls, samples: Mapping[str, npt.ArrayLike], *, floors: Mapping[str, float] | None = None) -> Self:
        """Sketch every feature's sample; `floors` as in `FeatureBaseline.fit`."""
        floors = floors or {}
        return cls({name: FeatureBaseline.fit(sample, floor=floors.get(name, 0.0)) for name, sample in samples.items()})

    def drift(self, windows: Mapping[str, npt.ArrayLike]) -> dict[str, float]:
        """Drift in percent of every feature both sides know."""
        return {name: drift_pct(windows[name], self.features[name]) for name in self.features if name in windows}

    def to_plain(self) -> dict[str, Any]:
        return {name: feature.to_plain() for name, feature in self.features.items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild a baseline that came over the network; `MonitorError` when it is none."""
        return cls({str(name): FeatureBaseline.from_plain(feature) for name, feature in plain.items()})


def drift_pct(window: npt.ArrayLike, reference: FeatureBaseline) -> float:
    """Drift of a window (any length, NaN ignored) against its reference, in percent, at most `CEILING_PCT`."""
    distance = wasserstein(window, reference.quantiles)
    return _percent(distance, reference.std)


def fleet_drift(windows: npt.NDArray[np.floating[Any]], baseline: Baseline, features: tuple[str, ...]) -> Array:
    """Drift in percent of a whole fleet at once.

    Takes windows [devices, features, samples] without NaN and returns [devices, features]. Holds the samples in order
    against the sketch at their levels, off by a few hundredths of sigma at most, and recomputes exactly what lies near
    a limit. In single precision, from the reference's mean on, and as many devices at a time as stay in a cache.
    """
    references = [baseline.features[name] for name in features]
    samples = windows.shape[-1]
    levels = (np.arange(samples) + 0.5) / samples
    middle = np.array([[reference.mean] for reference in references])
    usual = np.array([np.interp(levels, _LEVELS, reference.quantiles) for reference in references]) - middle
    apart, total = np.empty((_BLOCK, *windows.shape[1:]), dtype=np.float32), np.empty(windows.shape[:2])
    few, ones = usual.astype(np.float32), np.ones(samples, dtype=np.float32)
    with np.errstate(over="ignore"):  # beyond the ceiling anyway
        for first in range(0, len(windows), _BLOCK):
            block = windows[first : first + _BLOCK]
            held = np.subtract(block, middle, out=apart[: len(block)], casting="unsafe")
            held.sort(axis=-1)
            held -= few
            np.abs(held, out=held)
            total[first : first + _BLOCK] = held @ ones
    sigma = np.array([max(reference.std, 10.0**-_DECIMALS) for reference in references])
    percent: Array = np.minimum(total * (100.0 / samples / sigma), CEILING_PCT)
    for limit in (DRIFTED_PCT, ANOMALOUS_PCT):
        for device, feature in np.argwhere(np.abs(percent - limit) < _RECHECK_PCT):
            percent[device, feature] = drift_pct(windows[device, feature], references[feature])
    return percent


def _percent(distance: float, sigma: float) -> float:
    if distance <= 10.0**-_DECIMALS:  # within the sketch's rounding
        return 0.0
    return min(100.0 * distance / sigma, CEILING_PCT) if sigma > 0 else CEILING_PCT


def _finite(sample: npt.ArrayLike) -> Array:
    values: Array = np.asarray(sample, dtype=np.float64).ravel()
    values = values[np.isfinite(values)]
    if values.size == 0:
        raise MonitorError("a sample without a single finite value")
    return values
