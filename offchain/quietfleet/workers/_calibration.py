"""A sensor's side of a recalibration: what it lets itself be corrected by, and what it answers under its signature.

Nobody but the processor it works with may ask, and no proposal takes it beyond its own limits, which hold for all
corrections together: a processor that lies can move a channel that far and no further. Each question is acted on once:
its answer is kept with it in one transaction, and given again to whoever asks the same again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from quietfleet.monitor.recalibration import (
    NONE,
    Affine,
    Did,
    Recalibration,
    SignedRecalibration,
    limits_of,
)
from quietfleet.session import STATIC, Received
from quietfleet.workers.messages import DEAL, Recalibrate, Recalibrated

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._source import Corrected

SOON: Final = 60.0  # seconds within which nobody is corrected twice
KEPT: Final = 64  # answers that are kept
NONCE: Final = 16
UNLIMITED: Final = "no limits for it"
BEYOND: Final = "beyond limits"
TOO_SOON: Final = "too soon"
_SCHEMA: Final = [
    """CREATE TABLE recalibrations (
       number INTEGER PRIMARY KEY, nonce BLOB NOT NULL UNIQUE, acted REAL, answer BLOB NOT NULL) STRICT""",
]
_decoder = msgspec.msgpack.Decoder(SignedRecalibration)


class Calibration:
    """Takes questions in, in the caller's transaction."""

    def __init__(self, runtime: Runtime, source: Corrected) -> None:
        self._runtime = runtime
        self._source = source
        self._limits = limits_of(runtime.settings.sensor.calibration)
        runtime.database.migrate("recalibrations", _SCHEMA)

    def take(self, event: Received, asked: Recalibrate) -> None:
        """Correct, check or refuse; answer if an answer is wanted."""
        session = self._runtime.messenger.session(event.peer)
        if session is None or not (session.purpose == STATIC or session.purpose.startswith(DEAL)):
            self._runtime.metrics.count("recalibrations_ignored", reason="not our processor")
            return
        if len(asked.nonce) != NONCE:  # an earlier processor, which awaits no answer
            self._runtime.note("recalibrating", reason=asked.reason)
            self._source.recalibrate()
            return
        answer = self._answered(asked.nonce) or self._answer(asked)
        self._runtime.messenger.reply(event, Recalibrated(answer))

    def _answer(self, asked: Recalibrate) -> SignedRecalibration:
        now = self._runtime.clock.now()
        if self._soon(now):
            did, refused = Did.REFUSED, dict.fromkeys(asked.proposed, TOO_SOON)
        else:
            did, refused = self._act(asked)
        newest = self._source.newest
        since = self._runtime.data_clock.now() if newest is None else newest
        result = Recalibration(asked.nonce, did, max(0.0, since), self._source.in_force, refused)
        signed = result.signed(self._runtime.keyring.present or self._runtime.identity)
        self._keep(asked.nonce, None if did is Did.REFUSED else now, signed)
        self._runtime.note(
            "recalibrating",
            reason=asked.reason,
            did=did.value,
            in_force={channel: list(one) for channel, one in result.in_force.items()},
            refused=refused,
            since=since,
        )
        return signed

    def _act(self, asked: Recalibrate) -> tuple[Did, dict[str, str]]:
        """Put in force what is within limits; with nothing proposed, have the source check itself."""
        if not asked.proposed:
            self._source.recalibrate()
            return Did.CHECKED, {}
        before = self._source.in_force
        total = {channel: before.get(channel, NONE).then(one) for channel, one in asked.proposed.items()}
        refused = {channel: why for channel, one in total.items() if (why := self._objection(channel, one))}
        applied = {channel: one for channel, one in total.items() if channel not in refused}
        self._source.correct(applied)
        return (Did.CORRECTED if applied else Did.REFUSED), refused

    def _objection(self, channel: str, total: Affine) -> str:
        limits = self._limits.get(channel)
        if limits is None:
            return UNLIMITED
        return "" if limits.allow(total) else BEYOND

    def _soon(self, now: float) -> bool:
        last = self._runtime.database.execute("SELECT max(acted) FROM recalibrations").fetchone()[0]
        return last is not None and abs(now - last) < SOON

    def _answered(self, nonce: bytes) -> SignedRecalibration | None:
        row = self._runtime.database.execute("SELECT answer FROM recalibrations WHERE nonce = ?", (nonce,)).fetchone()
        return _decoder.decode(row[0]) if row else None

    def _keep(self, nonce: bytes, acted: float | None, answer: SignedRecalibration) -> None:
        kept = msgspec.msgpack.encode(answer)
        execute = self._runtime.database.execute
        execute("INSERT INTO recalibrations (nonce, acted, answer) VALUES (?, ?, ?)", (nonce, acted, kept))
        oldest = "SELECT number FROM recalibrations ORDER BY number DESC LIMIT 1 OFFSET ?"
        execute(f"DELETE FROM recalibrations WHERE number <= ({oldest})", (KEPT,))  # noqa: S608 - our own words
