"""How a processor tells the gateway how releases went: signed, one a release, said again until it was heard."""

from __future__ import annotations

from typing import Final

import msgspec

from quietfleet.clock import waits
from quietfleet.rollout import Outcome, OutcomeReport, Reason, SignedReport, Slots
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State
from quietfleet.workers._uplink import Uplink
from quietfleet.workers.messages import OutcomeHeard, ReleaseOutcome

ABOUT: Final = "outcome"
REMARK_EVERY: Final = 60.0  # seconds between two words about what is nobody's fault
KEPT: Final = 8  # reports that wait at most: the newest ones

_PREFIX: Final = "outcome:"
_NOBODY: Final = bytes(32)


class Reporting:
    """The reports that wait; a device that was offline sends them once it is back."""

    def __init__(self, runtime: Runtime, state: State, uplink: Uplink, channel: bytes) -> None:
        self._runtime = runtime
        self._state = state
        self._uplink = uplink
        self._channel = channel
        self._remark_due = 0.0

    def report(self, sequence: int, outcome: Outcome, reason: Reason, slots: Slots, pseudonym: bytes = _NOBODY) -> None:
        """Have the gateway told; a later word about the same release takes the place of an earlier one."""
        said = OutcomeReport(
            channel=self._channel,
            sequence=sequence,
            pseudonym=pseudonym,
            outcome=outcome,
            reason=reason,
            compared=slots.compared.number,
            ratio=slots.compared.ratio,
            watched=int(slots.watched.expected),
            rise=slots.rise,
            at=int(self._runtime.clock.now()),
        )
        key = self._runtime.keyring.present or self._runtime.identity
        self._state.set(f"{_PREFIX}{sequence:08d}", msgspec.msgpack.encode(said.signed(key)).hex())
        for name in sorted(self._waiting())[:-KEPT]:
            self._state.set(name, None)

    def remark(self, sequence: int, reason: Reason, slots: Slots) -> bool:
        """Have the gateway told why what came was not taken up, though nothing speaks against the release itself.

        It takes no weightier word's place, and is said once in a while, whatever comes how often; tells whether it is.
        """
        now, name = self._runtime.clock.now(), f"{_PREFIX}{sequence:08d}"
        if sequence <= slots.highest or name in self._waiting() or waits(now, self._remark_due, REMARK_EVERY):
            return False
        self._remark_due = now + REMARK_EVERY
        self.report(sequence, Outcome.REJECTED, reason, slots)
        return True

    def tick(self) -> None:
        """Tell the oldest, unless the gateway still owes a word about one."""
        waiting = self._waiting()
        if waiting and self._uplink.free(ABOUT):
            signed = msgspec.msgpack.decode(bytes.fromhex(waiting[min(waiting)]), type=SignedReport)
            self._state.set("telling", min(waiting) + signed.signature.hex())
            self._uplink.ask(ABOUT, ReleaseOutcome(signed), OutcomeHeard)

    def heard(self, answer: OutcomeHeard) -> None:
        """Let go of what was heard, unless there is a later word by now."""
        name = f"{_PREFIX}{answer.sequence:08d}"
        kept = self._state.get(name)
        told: str = self._state.get("telling", "")
        if kept is not None and told == name + bytes.fromhex(kept)[-65:].hex():
            self._state.set(name, None)

    def _waiting(self) -> dict[str, str]:
        return self._state.starting(_PREFIX)
