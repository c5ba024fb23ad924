"""What a processor learns by itself: a small head a device on what the release's model leaves over.

A head lives as long as the release it was made for and no longer than it helps. Whenever one is taken into use or out
of it, the gateway is told its hash and the evidence, signed, until it has heard; the readings stay here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from quietfleet.clock import waits
from quietfleet.errors import NoForecast
from quietfleet.pipeline.features import Table, feature_row
from quietfleet.pipeline.head import Autonomy as Bounds
from quietfleet.pipeline.head import Floats, Head, fit, rmse
from quietfleet.rollout.heads import HeadTold, SignedHead
from quietfleet.workers._outcomes import signed_by
from quietfleet.workers._trial import Company, History, neighbours
from quietfleet.workers._weekly import week_table
from quietfleet.workers.messages import HeadHeard, HeadReport

if TYPE_CHECKING:
    from quietfleet.pipeline.runtime import Forecast
    from quietfleet.session import Received
    from quietfleet.storage import TimeSeries
    from quietfleet.workers._devices import Devices
    from quietfleet.workers._model_slot import ModelSlot
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._state import State
    from quietfleet.workers._uplink import Uplink

ABOUT: Final = "head"
WEEK: Final = 7 * 86_400.0
KEPT: Final = 64  # words that wait at most: the newest ones
SOONER: Final = 24  # times as soon as usual, a device is looked at again that nothing could be said of
FRESH: Final = 12  # rows since it was made on which a head is judged again

_HEAD: Final = "head:"
_WORD: Final = "head-told:"


class _Kept(msgspec.Struct, frozen=True):
    release: int
    manifest_hash: bytes
    head: Head


class Autonomy:
    """A processor's heads, by device."""

    def __init__(
        self, runtime: Runtime, state: State, week: TimeSeries, slot: ModelSlot, devices: Devices, uplink: Uplink
    ) -> None:
        self._runtime = runtime
        self._state = state
        self._week = week
        self._slot = slot
        self._devices = devices
        self._uplink = uplink
        self._every = runtime.settings.processor.refit_every
        self._due: dict[str, float] = {}

    def corrected(self, device: str, forecast: Forecast, history: History, company: Company) -> Forecast:
        """Return a forecast of the model in use, moved by the device's head if it has one."""
        model, kept = self._slot.model, self._kept(device)
        if model is None or kept is None or not self._fits(kept):
            return forecast
        row = feature_row(model.features, history, list(neighbours(model.features, history, company)))
        return forecast if row is None else forecast.moved(float(kept.head.corrections(row)[0]))

    def tick(self) -> None:
        """Let go of heads that stand for nothing any more, refit one that is due, and tell what is to be told."""
        for device in self.evidence():
            kept = self._kept(device)
            if kept is not None and not self._fits(kept):
                self._drop(device, kept, "another release" if self._allowed else "not allowed")
            elif device not in self._devices:
                self._state.set(_HEAD + device, None)
        if self._allowed:
            self._refit_one()
        waiting = self._state.starting(_WORD)
        if waiting and self._uplink.free(ABOUT):
            signed = msgspec.msgpack.decode(bytes.fromhex(waiting[min(waiting)]), type=SignedHead)
            self._uplink.ask(ABOUT, HeadReport(signed), HeadHeard)

    def heard(self, answer: HeadHeard) -> None:
        """Let go of a word that the gateway has heard."""
        for name, word in self._state.starting(_WORD).items():
            if msgspec.msgpack.decode(bytes.fromhex(word), type=SignedHead).told.digest == answer.digest:
                self._state.set(name, None)

    def evidence(self) -> dict[str, dict[str, object]]:
        """What heads are in use, and what speaks for each."""
        kept = {name.removeprefix(_HEAD): self._read(word) for name, word in self._state.starting(_HEAD).items()}
        return {
            device: {
                "head": one.head.hash.hex()[:16],
                "rows": one.head.rows,
                "before": round(one.head.before, 4),
                "after": round(one.head.after, 4),
            }
            for device, one in kept.items()
        }

    @property
    def _allowed(self) -> bool:
        """Whether the operator, and the release in use, let devices have heads."""
        model = self._slot.model
        return self._every > 0 and model is not None and model.autonomy is not None and model.features.horizon > 0

    def _fits(self, kept: _Kept) -> bool:
        return self._allowed and self._slot.manifest_hash == kept.manifest_hash

    def _kept(self, device: str) -> _Kept | None:
        word = self._state.get(_HEAD + device)
        return self._read(word) if word else None

    def _read(self, word: str) -> _Kept:
        return msgspec.msgpack.decode(bytes.fromhex(word), type=_Kept)

    # refitting

    def _refit_one(self) -> None:
        """Refit the head of one device whose time it is; one a tick, so that nobody waits for all of them."""
        now = self._runtime.data_clock.now()
        for device, _ in self._devices.sound():
            if not waits(now, self._due.get(device, 0.0), self._every):
                judged = self._refit(device, now)
                self._due[device] = now + (self._every if judged else self._every / SOONER)
                return

    def _refit(self, device: str, now: float) -> bool:
        """Judge a device's head and make it a new one; tell whether that could be said."""
        model, manifest = self._slot.model, self._slot.manifest_hash
        rows = self._week.window(device, max(now - WEEK, self._devices.judged_after(device)), now + 1)
        if model is None or model.autonomy is None or not rows:
            return False
        table = week_table(model.features, rows, device, self._week, self._devices)
        if len(table.times) < model.autonomy.min_rows:
            return False
        try:
            forecasts = model.predict_many(table.rows, self._devices.pseudonym(device))
        except NoForecast:
            return False
        self._judge(device, manifest, model.autonomy, table, table.targets - forecasts, model.features.horizon)
        return True

    def _judge(self, device: str, manifest: bytes, bounds: Bounds, table: Table, residuals: Floats, gap: int) -> None:
        kept = self._kept(device)
        if kept is not None and self._is_worse(kept.head, table, residuals):
            self._drop(device, kept, "worse than the release")
            return
        head = fit(bounds, table.rows, residuals, table.times, gap)
        if head is not None:
            self._take(device, _Kept(self._slot.sequence, manifest, head))
        elif kept is not None:
            self._drop(device, kept, "no better than the release")

    def _is_worse(self, head: Head, table: Table, residuals: Floats) -> bool:
        """Judge a head on what came since it was made."""
        fresh = table.times > head.until
        if np.count_nonzero(fresh) < FRESH:
            return False
        return rmse(residuals[fresh] - head.corrections(table.rows[fresh])) > rmse(residuals[fresh])

    # telling

    def _take(self, device: str, kept: _Kept) -> None:
        self._state.set(_HEAD + device, msgspec.msgpack.encode(kept).hex())
        self._runtime.metrics.count("heads_fitted")
        self._tell("head-fitted", device, kept)

    def _drop(self, device: str, kept: _Kept, why: str) -> None:
        self._state.set(_HEAD + device, None)
        self._runtime.metrics.count("heads_dropped", reason=why)
        self._tell("head-dropped", device, kept, why)

    def _tell(self, kind: str, device: str, kept: _Kept, why: str = "") -> None:
        head, at = kept.head, self._runtime.clock.now()
        told = HeadTold(
            device=self._devices.pseudonym(device),
            release=kept.release,
            manifest_hash=kept.manifest_hash,
            head=head.hash,
            rows=head.rows,
            before=head.before,
            after=head.after,
            at=int(at),
            why=why,
        )
        self._runtime.note(kind, device=told.device, **evidence(told))
        signed = told.signed(self._runtime.keyring.present or self._runtime.identity)
        self._state.set(f"{_WORD}{at:020.6f}:{told.device}", msgspec.msgpack.encode(signed).hex())
        for name in sorted(self._state.starting(_WORD))[:-KEPT]:
            self._state.set(name, None)


def hear_head(runtime: Runtime, event: Received, report: HeadReport) -> None:
    """Take a processor's word about a head at the gateway, if it is its own; an answer says that it was heard."""
    told = report.signed.told
    if not signed_by(runtime, event.peer, told.digest, report.signed.signature):
        runtime.metrics.count("heads_refused", reason="forged")
        return
    runtime.metrics.count("heads_heard", state="dropped" if told.why else "fitted")
    runtime.note("head-reported", processor=runtime.trail.who(event.peer), **evidence(told))
    runtime.messenger.reply(event, HeadHeard(told.digest))


def evidence(told: HeadTold) -> dict[str, object]:
    """What an audit trail says of a head."""
    return {
        "release": told.release,
        "manifest": told.manifest_hash.hex(),
        "head": told.head.hex(),
        "rows": told.rows,
        "before": round(told.before, 4),
        "after": round(told.after, 4),
        "why": told.why,
    }
