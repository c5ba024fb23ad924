"""The gateway's ear for its processors: which of them has said nothing for longer than any that lives would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from quietfleet.clock import waits
from quietfleet.workers._silence import Silence

if TYPE_CHECKING:
    from quietfleet.workers._intake import Intake
    from quietfleet.workers._runtime import Runtime

LIMIT: Final = 30 * 3600.0  # of data time: readings go up each hour, and each processor is asked once a day how it does
LOOK_EVERY: Final = 60.0  # seconds


class Hearing:
    """Watches the processors whose readings are here and that may work; in the caller's transaction.

    The journal has them under the pseudonyms of the epoch, like everything at a gateway.
    """

    def __init__(self, runtime: Runtime, intake: Intake) -> None:
        self._runtime = runtime
        self._intake = intake
        self._silence = Silence(runtime.clock, runtime.data_clock, LIMIT)
        self._silent: frozenset[str] = frozenset()
        self._due = 0.0

    def came(self, peer: str) -> None:
        """Note that somebody was heard."""
        self._silence.came(peer)

    def tick(self) -> None:
        """Say who has fallen silent, and who is heard again."""
        now = self._runtime.clock.now()
        if waits(now, self._due, LOOK_EVERY):
            return
        self._due = now + LOOK_EVERY
        expected = [one for one in self._intake.processors() if self._runtime.registry.usable(one)]
        silent = self._silence.silent(expected, LOOK_EVERY)
        for one in sorted(silent - self._silent):
            self._runtime.note("processor-silent", who=self._runtime.trail.who(one))
        for one in sorted((self._silent - silent) & set(expected)):
            self._runtime.note("processor-heard", who=self._runtime.trail.who(one))
        self._silent = silent
        self._runtime.metrics.gauge("processors_silent", len(silent))
