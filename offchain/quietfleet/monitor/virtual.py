"""A virtual sensor: what a channel should read by what is read beside it, while its own readings cannot be taken.

Inputs are what neighbours read at that moment (the middle of each channel), what the device's other channels read, and
the hour of day. A ridge regression on a week when all was well says by how much the device differs from its neighbours.
A model of one's own often is no better than none: it is used only if each part of that week is told better from the
other parts, most of them at least, than the usual distance tells it, and it says nothing further from there than the
device ever was.
Without neighbours the device's other channels alone must explain most of how this one moves, as temperature and
humidity do with the dew point.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

LEAST: Final = 48
"""Samples below which nothing is fitted, and the usual distance alone is left."""

_SHARE: Final = 0.9  # of the samples have to know an input, or it is none
_BETTER: Final = 0.9  # of the usual distance's error, which a fit has to stay below
_EXPLAINED: Final = 0.5  # of how far the channel is from its own middle, where there are no neighbours
_MOST: Final = 0.7  # of the parts, in which a fit has to be better
_PARTS: Final = 7  # of the samples, in order of time: days, of a week
_PENALTIES: Final = (1.0, 10.0, 100.0, 1000.0)
_DAY: Final = 86_400.0

Array = npt.NDArray[np.float64]


class Sample(NamedTuple):
    """What a device and its neighbours read at a moment (Unix seconds), by channel."""

    time: float
    own: Mapping[str, float]
    beside: Mapping[str, float]


@dataclass(frozen=True)
class Virtual:
    """Says what one channel reads; `error` is its root mean square where it had not learned, NaN if unknown."""

    channel: str
    usual: float  # the distance from the neighbours, or the middle of the channel if there are none
    bound: float = 0.0  # of how far from there it may say
    error: float = math.nan
    fitted: _Ridge | None = None
    inputs: tuple[str, ...] = ()  # of the device itself
    around: tuple[str, ...] = ()  # of its neighbours

    def read(self, sample: Sample) -> float:
        """Return what the channel should read; the sample must know `inputs` and `around`."""
        middle = self.usual + sample.beside.get(self.channel, 0.0)
        if self.fitted is None:
            return middle
        said = float(self.fitted.predict(_matrix([sample], self.inputs, self.around))[0])
        return middle + min(max(said - self.usual, -self.bound), self.bound)


def learn(channel: str, samples: Sequence[Sample], knows: Sample) -> Virtual | None:
    """Learn what a channel reads, from samples in order of time, by such inputs as a later one `knows`.

    Returns None if nothing tells: there are neither neighbours nor channels that go with it.
    """
    peers = channel in knows.beside
    kept = [one for one in samples if channel in one.own and (not peers or channel in one.beside)]
    if not kept:
        return Virtual(channel, 0.0) if peers else None
    around = tuple(_common(knows.beside.keys(), [one.beside for one in kept]))
    inputs = tuple(_common(knows.own.keys() - {channel}, [one.own for one in kept]))
    target = np.array([one.own[channel] - (one.beside[channel] if peers else 0.0) for one in kept])
    usual = float(np.median(target))
    whole = [place for place, one in enumerate(kept) if one.own.keys() >= {*inputs} and one.beside.keys() >= {*around}]
    fit = None
    if len(whole) >= LEAST and (peers or inputs):
        fit = _chosen(_matrix([kept[place] for place in whole], inputs, around), target[whole], peers=peers)
    if fit is None:
        return Virtual(channel, usual) if peers else None
    fitted, error = fit
    return Virtual(channel, usual, float(np.abs(target - usual).max()), error, fitted, inputs, around)


class _Ridge(NamedTuple):
    """Weights over standardised inputs."""

    middle: Array
    spread: Array
    weights: Array
    offset: float

    def predict(self, inputs: Array) -> Array:
        return np.asarray((inputs - self.middle) / self.spread @ self.weights + self.offset)


def _ridge(inputs: Array, target: Array, penalty: float) -> _Ridge:
    middle, spread = inputs.mean(axis=0), inputs.std(axis=0)
    spread[spread == 0] = 1.0
    scaled, offset = (inputs - middle) / spread, float(target.mean())
    weights = np.linalg.solve(scaled.T @ scaled + penalty * np.eye(scaled.shape[1]), scaled.T @ (target - offset))
    return _Ridge(middle, spread, weights, offset)


def _chosen(inputs: Array, target: Array, *, peers: bool) -> tuple[_Ridge, float] | None:
    """Fit with the penalty that tells parts best by the others, and its error there; None if that is not enough."""
    edges = np.linspace(0, len(target), _PARTS + 1).astype(int)
    errors: Array = np.empty((len(_PENALTIES), _PARTS))
    plain: Array = np.empty(_PARTS)
    for part in range(_PARTS):
        judged = slice(edges[part], edges[part + 1])
        rest = np.delete(np.arange(len(target)), judged)
        for line, penalty in enumerate(_PENALTIES):
            errors[line, part] = _rms(
                _ridge(inputs[rest], target[rest], penalty).predict(inputs[judged]) - target[judged]
            )
        plain[part] = _rms(np.median(target[rest]) - target[judged])
    best = int(np.argmin(np.square(errors).mean(axis=1)))
    error = _rms(errors[best])
    better = error < (_BETTER if peers else _EXPLAINED) * _rms(plain)
    if not better or np.mean(errors[best] < plain) < _MOST:
        return None
    return _ridge(inputs, target, _PENALTIES[best]), error


def _rms(apart: Array) -> float:
    return float(np.sqrt(np.mean(np.square(apart))))


def _common(wanted: Iterable[str], known: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Yield the names, in order, that nearly all samples know."""
    for name in sorted(wanted):
        if sum(name in one for one in known) >= _SHARE * len(known):
            yield name


def _matrix(samples: Sequence[Sample], inputs: Sequence[str], around: Sequence[str]) -> Array:
    """The inputs of each sample: [samples, inputs + around + the hour of day on a circle]."""
    angles = [2 * math.pi * (one.time % _DAY) / _DAY for one in samples]
    rows = [
        [*(one.own[name] for name in inputs), *(one.beside[name] for name in around), math.cos(angle), math.sin(angle)]
        for one, angle in zip(samples, angles, strict=True)
    ]
    return np.array(rows, dtype=np.float64)
