"""What our nodes are in these benches: relays that the chain vouches for, without a price or a delay on envelopes."""

from __future__ import annotations

import struct
import time
from random import SystemRandom
from typing import Final

from quietfleet.clock import SystemClock
from quietfleet.crypto import PrivateKey
from quietfleet.metrics import Metrics
from quietfleet.network import EmbeddedNode, RlpxLinks, Tuning
from quietfleet.whisper import Envelope, Rules

BATCH: Final = 16  # messages a sender hands over before the loop has its turn; the same for the peers
STAMP: Final = struct.Struct(">Qq")  # which message, and when it was sent by the monotonic clock, in nanoseconds
_RULES: Final = Rules(min_pow=0.0)
_TTL: Final = 50


class _Everyone:
    """A directory in which every node is a registered relay, so that no quota is held against it."""

    def owner_of(self, key: str) -> str | None:
        return key

    def relays(self) -> int:
        return 0


def relay(metrics: Metrics) -> EmbeddedNode:
    """Return a node that listens on the loopback and dials nobody yet."""
    return EmbeddedNode(
        listen="127.0.0.1:0",
        peers=[],
        rules=_RULES,
        metrics=metrics,
        clock=SystemClock(),
        rng=SystemRandom(),
        links=RlpxLinks(PrivateKey.generate(), exempt_loopback=True),
        tuning=Tuning(max_delay=0.0),
        directory=_Everyone(),
    )


def envelope(number: int, rest: bytes) -> Envelope:
    """Return an envelope sent now, whose data is the stamp and `rest`."""
    data = STAMP.pack(number, time.monotonic_ns()) + rest
    return Envelope(int(time.time()) + _TTL, _TTL, b"line", data, 0)
