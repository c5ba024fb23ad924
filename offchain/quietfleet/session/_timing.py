"""How patient a messenger is: a word and its answer cross the network twice, through three relays and cover traffic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: until the first repetition, between the last ones, and until a call is given up.

    The first must be longer than a round trip and `acknowledge`, for which an acknowledgement waits for another word
    to its peer to go with, or every message is sent twice.
    """

    first_retry: float = 6.0
    last_retry: float = 20.0
    call: float = 45.0
    acknowledge: float = 0.5

    def wait(self, attempts: int) -> float:
        """Seconds until the next repetition after so many attempts: doubling, up to the last."""
        return min(self.last_retry, self.first_retry * 2.0 ** min(attempts - 1, 16))
