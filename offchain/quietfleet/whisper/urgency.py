"""How soon an envelope deserves to be carried: work paid in advance, and time left to live (paper, section III-C)."""

from __future__ import annotations

from math import log2


def urgency(pow: float, ttl: float, weight: float = 0.5) -> float:  # noqa: A002 -- the protocol's word
    """Return weight x log2(1 + pow) - (1 - weight) x log2(1 + ttl): rises with work, falls with time to live.

    `weight` between 0 and 1 favours work over haste. On logarithms, because work doubles with each zero bit: at equal
    weights a sender gains as much by doubling its work as by halving its time to live.
    """
    return weight * log2(1.0 + pow) - (1.0 - weight) * log2(1.0 + ttl)
