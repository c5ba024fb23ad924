"""The time a worker asks archives for.

A relay learns when we were last here, which could tell it who we were then. So we ask for whole minutes, and for one of
eleven lengths of time: two minutes, four, eight, up to a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from quietfleet.whisper import CLOCK_SKEW, Envelope

MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Window:
    """Whole minutes in Unix seconds, and the topics we listen to."""

    since: int
    until: int
    bloom: bytes

    @classmethod
    def over(cls, heard: float, now: float, longest: float, bloom: bytes) -> Window:
        """Cover the time from `heard` to `now`, or the `longest`, by one of few lengths."""
        length = 2 * MINUTE
        while length < min(now - heard + 2 * CLOCK_SKEW, longest):
            length *= 2
        until = -int(-now // MINUTE) * MINUTE
        return cls(max(0, until - min(length, int(longest)) - MINUTE), until, bloom)

    def holds(self, envelope: Envelope) -> bool:
        """Tell whether an envelope can have arrived anywhere in this time, with clocks a little apart."""
        return envelope.expiry >= self.since - CLOCK_SKEW and envelope.sent <= self.until + CLOCK_SKEW
