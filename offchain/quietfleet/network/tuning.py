"""What an operator may turn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes and times of one node; the defaults suit a fleet of tens of relays and thousands of workers.

    `max_delay` is the longest random wait, in seconds, before an envelope goes to a peer: what makes its origin hard
    to time. An envelope of `urgent_from` or more on the scale of `whisper.urgency` goes at once; 0 means as much proof
    of work as it has seconds to live. `outbox` and `inbox` are envelopes kept for one slow peer and one slow reader.
    """

    max_delay: float = 0.04
    urgent_from: float = 0.0
    outbox: int = 65_536
    inbox: int = 4_096
    max_inbound: int = 64
    first_pause: float = 0.5
    longest_pause: float = 60.0
    sweep_every: float = 1.0
