"""How well an adversary did: recall and precision as Dandelion's authors define them, with what chance adds to both.

For each set of spies an adversary maps every letter of an honest sender to a node. Recall is the share of letters that
it maps rightly, the risk of each; precision weighs each hit by how many letters were mapped to the same node, so that
who suspects one node of everything gains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from bench.darkness.packets import Bools, Floats, Ints
from scipy.optimize import linear_sum_assignment

_RESAMPLES: Final = 400
_INTERVAL: Final = (2.5, 97.5)  # per cent


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its 95 % confidence interval, from resampling sets of spies and letters at once."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def hits(suspects: Ints, senders: Ints) -> Floats:
    """Return 1 for each letter mapped rightly, 0 for others."""
    return np.asarray(suspects == senders, dtype=float)


def shares(suspects: Ints, senders: Ints) -> Floats:
    """Return what each letter adds to precision: a hit, divided among all that were mapped to its sender."""
    if len(suspects) == 0:
        return np.zeros(0)
    counts = np.bincount(suspects + 1)  # nobody is -1
    return np.asarray(hits(suspects, senders) / counts[suspects + 1])


def likeliest(posterior: Floats, rng: np.random.Generator) -> Ints:
    """Return the likeliest worker for each letter; of equals, any."""
    jitter = 1 + 1e-9 * rng.random(posterior.shape)
    return np.asarray((posterior * jitter).argmax(axis=1))


def matched(posterior: Floats, rng: np.random.Generator) -> Ints:
    """Return the mapping that is best for precision where each worker wrote once: all different, likeliest together."""
    letters, workers = linear_sum_assignment(-posterior - 1e-12 * rng.random(posterior.shape))
    chosen = np.full(len(posterior), -1)
    chosen[letters] = workers
    return chosen


def entropy(posterior: Floats) -> Floats:
    """Return the bits that the adversary lacks, for each letter."""
    return np.asarray(-(posterior * np.log2(np.maximum(posterior, 1e-300))).sum(axis=1))


def estimate(values: Floats, counted: Bools, rng: np.random.Generator) -> Estimate:
    """Return the mean of `values` (sets of spies x letters) where `counted`, with its interval."""
    total, number = np.where(counted, values, 0.0), counted.astype(float)
    sets, letters = values.shape
    means = np.empty(_RESAMPLES)
    for turn in range(_RESAMPLES):
        rows = np.bincount(rng.integers(0, sets, sets), minlength=sets).astype(float)
        columns = np.bincount(rng.integers(0, letters, letters), minlength=letters).astype(float)
        means[turn] = (rows @ total @ columns) / max(1e-12, rows @ number @ columns)
    low, high = np.percentile(means, _INTERVAL)
    return Estimate(float(total.sum() / max(1.0, number.sum())), float(low), float(high))
