"""What an operator may turn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes and times of one node; the defaults suit a fleet of tens of relays and thousands of workers.

    `max_delay` is the longest random wait, in seconds, before an envelope goes to a peer: what makes its origin hard
    to time. An envelope of `urgent_from` or more on the scale of `whisper.urgency` goes at once; 0 means as much proof
    of work as it has seconds to live. `outbox` and `inbox` are envelopes kept for one slow peer and one slow reader,
    `posts` the bytes of other messages kept for one slow peer; `pool_count` and `pool_bytes` bound all that is carried.

    `new_rate` is how many envelopes a second, and `packet_rate` how many onion packets, a peer that is no registered
    relay may bring into the network through one link. `pace` is how fast we read such a peer, in units a second: a unit
    is a message, a KiB of it or an envelope, and ten units an envelope or packet that is worthless. Four seconds' worth
    may come at once. Who sends more is left waiting, and is neither expelled nor loses an envelope.
    """

    max_delay: float = 0.04
    urgent_from: float = 0.0
    outbox: int = 65_536
    inbox: int = 4_096
    posts: int = 4 << 20
    max_inbound: int = 128
    max_dialled: int = 64
    first_pause: float = 0.5
    longest_pause: float = 60.0
    sweep_every: float = 1.0
    new_rate: float = 20.0
    packet_rate: float = 40.0
    pace: float = 500.0
    pool_count: int = 65_536
    pool_bytes: int = 64 << 20
