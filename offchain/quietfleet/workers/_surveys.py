"""The gateway asks each processor from time to time how its model does, and trains when it does badly.

An answer counts if the processor was asked, its own key signed it, and it carries the nonce of that question; it counts
once. What it says is kept sealed until that processor's next one. One processor cannot have a model trained by itself,
unless it really has a crowd of devices: what it says counts for no more devices than it brought readings of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from quietfleet.clock import waits
from quietfleet.crypto import derive
from quietfleet.monitor import Performance, combined
from quietfleet.monitor.telling import SignedTold, Told
from quietfleet.pipeline.decision import RedeployRule
from quietfleet.session import GATEWAY, Received
from quietfleet.storage import SealedColumn
from quietfleet.workers._outcomes import signed_by
from quietfleet.workers.messages import MonitorReport, MonitorRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._state import State

ABOUT: Final = "monitor"
ANSWER_WITHIN: Final = 60.0  # seconds
HOUR: Final = 3600.0
MEANINGFUL: Final = 24  # comparisons below which an error says little
LARGEST: Final = 65_536  # bytes of a report; one of 64 devices with 16 features each is smaller
_ASKED: Final = "monitor:asked:"
_TOLD: Final = "monitor:told:"
_DUE: Final = "monitor:due"


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    peer: str
    at: float
    signed: SignedTold


class Surveys:
    """Asks, takes answers in, and says what of them is a reason to train; in the caller's transaction."""

    def __init__(self, runtime: Runtime, state: State, brought: Callable[[str], int]) -> None:
        self._runtime = runtime
        self._state = state
        self._brought = brought
        self._every = runtime.settings.runs.monitor_hours * HOUR
        self._k = runtime.settings.gateway.k
        self._secret = derive(runtime.identity.to_bytes(), "storage", b"monitor")
        self._sealed = SealedColumn(self._secret, "state.monitor", random=runtime.random)

    def tick(self, release: int) -> None:
        """Ask everybody in session, once a period, if there is a release to ask about."""
        now = self._runtime.clock.now()
        if not self._every or not release or waits(now, self._state.get(_DUE, 0.0), self._every):
            return
        asked = {one.peer for one in self._runtime.messenger.table.sessions.values() if one.purpose == GATEWAY}
        if not asked:
            return
        self._state.set(_DUE, now + self._every)
        for name in self._state.starting(_ASKED):
            self._state.set(name, None)
        for peer in sorted(asked):
            nonce = self._runtime.random(16)
            self._state.set(self._name(_ASKED, peer), nonce.hex())
            self._runtime.messenger.request(peer, MonitorRun(nonce), (MonitorReport,), ANSWER_WITHIN, ABOUT)
        self._runtime.note("monitor-run", release=release)

    def take(self, event: Received, report: MonitorReport, release: int) -> dict[str, Any] | None:
        """Keep an answer; return what all answers say of this release if it does badly, else nothing; None: refused."""
        wrong = self._wrong(event, report)
        if wrong:
            self._runtime.metrics.count("monitor_reports_refused", reason=wrong)
            return None
        self._state.set(self._name(_ASKED, event.peer), None)
        told = report.signed.told
        if told.spent:  # what it told before stands for as long as it would have
            self._runtime.note("monitor-reported", release=told.release, epsilon="spent")
            return self._reason(release) or {}
        row = self._name(_TOLD, event.peer)
        kept = msgspec.msgpack.encode(_Kept(event.peer, self._runtime.clock.now(), report.signed))
        self._state.set(row, self._sealed.seal(kept, row=row.encode()).hex())
        self._runtime.metrics.count("monitor_reports")
        private = {"epsilon": told.epsilon, "epsilon_left": told.epsilon_left} if told.epsilon else {}
        self._runtime.note("monitor-reported", release=told.release, **private)
        return self._reason(release) or {}

    def _wrong(self, event: Received, report: MonitorReport) -> str:
        """A word for what is wrong with an answer; empty if nothing is."""
        signed = report.signed
        asked: str | None = self._state.get(self._name(_ASKED, event.peer))
        if event.answers != ABOUT or asked is None:
            return "unasked"
        if signed.told.nonce.hex() != asked:
            return "replayed"
        if len(msgspec.msgpack.encode(signed)) > LARGEST:
            return "oversize"
        return "" if signed_by(self._runtime, event.peer, signed.told.digest, signed.signature) else "forged"

    def _reason(self, release: int) -> dict[str, Any] | None:
        """What the last answers say, if the model is bad on at least k devices and half of those it was judged on."""
        bad, devices, judged = [], 0, 0
        for kept in self._heard():
            told = kept.signed.told
            if told.release != release or told.compared < MEANINGFUL:
                continue
            number = min(told.judged, self._brought(kept.peer))
            judged += number
            if _is_bad(told):
                bad.append(told)
                devices += number
        found = combined(Performance(told.compared, told.rmse, told.persistence_rmse) for told in bad)
        if found is None or devices < self._k or 2 * devices < judged:
            return None
        errors = {"rmse": round(found.rmse, 3), "persistence_rmse": round(found.persistence_rmse, 3)}
        return {"release": release, "devices": devices, **errors}

    def _heard(self) -> list[_Kept]:
        """What was told in this period or the one before."""
        since = self._runtime.clock.now() - 2 * self._every
        found = []
        for row, sealed in self._state.starting(_TOLD).items():
            body = self._sealed.open(bytes.fromhex(sealed), row=row.encode())
            kept = msgspec.msgpack.decode(body, type=_Kept)
            if kept.at < since:
                self._state.set(row, None)
            else:
                found.append(kept)
        return found

    def _name(self, prefix: str, peer: str) -> str:
        """A name on disk that only this gateway can tell whose it is."""
        return prefix + derive(self._secret, "monitor", peer.encode(), length=12).hex()


def _is_bad(told: Told) -> bool:
    """Beyond what a champion is allowed, or no better than what costs nothing."""
    return told.rmse > RedeployRule().degrade_above or 0 < told.persistence_rmse < told.rmse
