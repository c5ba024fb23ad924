"""Differential privacy for what is told of a group: noise on whole numbers, and an account of what it has cost.

What goes out are counts, and sums of bounded figures in whole units; each gets discrete Laplace noise, drawn exactly
from random bits (Canonne, Kamath and Steinke 2020): floating point plays no part in it, whose gaps would tell the very
figures the noise is to hide (Mironov 2012). Neighbours are two groups that differ by one device with all of its week.
What is spent adds up: whoever is told several things by ε₁, ε₂, … knows as much as by their sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from quietfleet.errors import MonitorError

Random = Callable[[int], bytes]

KINDS_EACH: Final = 2
"""Kinds of fault that one device counts for at most, the first by name."""
STEPS: Final = 1000
"""Whole units of the largest squared error."""
LEAST: Final = Fraction(1, 1000)
_PARTS: Final = 4  # of ε: how many devices, their faults, the model's errors, those of persistence


class Group(NamedTuple):
    """What is told of a group: noisy; counts may come out as none, and errors as none or as the largest."""

    devices: int
    faults: Mapping[str, int]
    rmse: float
    persistence_rmse: float


def discrete_laplace(scale: Fraction, random: Random) -> int:
    """Draw a whole number x with probability in proportion to exp(-|x| / scale); `MonitorError` if scale <= 0."""
    if scale <= 0:
        raise MonitorError("noise needs a scale above zero")
    t, s = scale.numerator, scale.denominator
    while True:
        rest = _below(t, random)
        if not _happens(Fraction(rest, t), random):
            continue
        whole = 0
        while _happens(Fraction(1), random):
            whole += 1
        size = (rest + t * whole) // s
        negative = bool(_below(2, random))
        if negative and size == 0:
            continue
        return -size if negative else size


def noisy(value: int, sensitivity: int, epsilon: Fraction, random: Random) -> int:
    """Add to a whole number that one device changes by at most `sensitivity` what makes it ε-private."""
    return value + discrete_laplace(Fraction(sensitivity) / epsilon, random)


def tell_group(
    faults: Iterable[Iterable[str]],
    kinds: Sequence[str],
    errors: Iterable[tuple[float, float]],
    *,
    cap: float,
    epsilon: Fraction,
    random: Random,
) -> Group:
    """Tell of a group by ε in all: the faults of each device, and (RMSE, persistence RMSE) of each that was compared.

    Squared errors are cut at cap² (the target's unit), and every one of `kinds` is told of, found or not: which are
    missing would tell as well.
    """
    part = epsilon / _PARTS
    counts = dict.fromkeys(kinds, 0)
    for each in faults:
        for kind in sorted(set(each) & counts.keys())[:KINDS_EACH]:
            counts[kind] += 1
    compared = [(_steps(model, cap), _steps(free, cap)) for model, free in errors]
    devices = max(0, noisy(len(compared), 1, part, random))
    sums = [max(0, noisy(sum(column), STEPS, part, random)) for column in zip(*compared, strict=True)] or [
        max(0, noisy(0, STEPS, part, random)) for _ in range(2)
    ]
    rmse, free = (_error(one, devices, cap) for one in sums)
    told = {kind: max(0, noisy(count, KINDS_EACH, part, random)) for kind, count in counts.items()}
    return Group(devices, told, rmse, free)


def rational(epsilon: float) -> Fraction:
    """Return an ε as a fraction, a little less rather than more; `MonitorError` below a thousandth."""
    found = Fraction(math.floor(Fraction(epsilon) / LEAST)) * LEAST if math.isfinite(epsilon) else Fraction(0)
    if found < LEAST:
        raise MonitorError(f"ε has to be {float(LEAST)} at least, not {epsilon}")
    return found


def affordable(spent: Iterable[float], epsilon: float, budget: float) -> bool:
    """Whether an answer by so much more stays within a budget; what was spent adds up."""
    return math.fsum([*spent, epsilon]) <= budget * (1 + 1e-12)


def _steps(error: float, cap: float) -> int:
    """A squared error in whole steps of the largest one; what is no number counts as that."""
    share = min(1.0, abs(error) / cap) if math.isfinite(error) else 1.0
    return round(STEPS * share**2)


def _error(steps: int, devices: int, cap: float) -> float:
    return cap * math.sqrt(min(1.0, steps / (STEPS * max(1, devices))))


def _happens(gamma: Fraction, random: Random) -> bool:
    """Return True with probability exp(-gamma), of 0 to 1, by von Neumann's way with whole numbers alone."""
    place = 1
    while _below(gamma.denominator * place, random) < gamma.numerator:
        place += 1
    return place % 2 == 1


def _below(limit: int, random: Random) -> int:
    """Draw a whole number below a limit, each as likely as any other."""
    if limit == 1:
        return 0
    bits = (limit - 1).bit_length()
    size = (bits + 7) // 8
    while True:
        drawn = int.from_bytes(random(size)) >> (8 * size - bits)
        if drawn < limit:
            return drawn
