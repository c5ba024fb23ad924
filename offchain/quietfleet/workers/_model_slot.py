"""The model a processor runs: it drives `quietfleet.rollout.device`, two slots kept across restarts.

What `_fetching` brings and holds against the chain takes a slot; it forecasts unused beside the active model, is tried,
and stays or goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from quietfleet.chain.channel import Channel, Release, ReleaseState
from quietfleet.crypto import keccak256
from quietfleet.errors import ModelFailed, ModelRejected, NoForecast, StorageError
from quietfleet.pipeline.features import Features
from quietfleet.pipeline.runtime import Forecast, Model
from quietfleet.rollout import PASSING, Device, Gate, Install, Offer, Outcome, Reason, Slots
from quietfleet.storage import ObjectStore
from quietfleet.workers._fetching import Answer, Fetching
from quietfleet.workers._inference import make_inference
from quietfleet.workers._loading import Loaded
from quietfleet.workers._reporting import Reporting
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State
from quietfleet.workers._trial import USUAL, Asked, Company, Found, History, Trial
from quietfleet.workers._uplink import Uplink
from quietfleet.workers.messages import OutcomeHeard, ReleaseBundle

_SLOTS: Final = "slots"
_FELL_BACK: Final = "fell back"
FAILURES: Final = 3
"""Forecasts in a row that the model in use fails at, of whatever device, before the one before it goes on."""


class ModelSlot:
    """One channel's model on this device."""

    def __init__(self, runtime: Runtime, state: State, uplink: Uplink) -> None:
        self._runtime = runtime
        self._state = state
        self.channel = keccak256(runtime.settings.processor.channel.encode())
        self._reporting = Reporting(runtime, state, uplink, self.channel)
        self.inference = make_inference(runtime)
        self._loaded = Loaded(ObjectStore(runtime.folder / "objects"), self.inference)
        self.fetching = Fetching(runtime, state, uplink, self, self.inference)
        self.model: Model | None = None
        self.candidate: Model | None = None
        self._slots = self._read()
        self._trial = Trial(runtime)
        self._failures = 0
        self._start()

    @property
    def sequence(self) -> int:
        """The release in use; 0 before the first."""
        return self._slots.used.sequence if self._slots.used else 0

    @property
    def fell_back(self) -> bool:
        """Whether the model in use is the last one that worked, and not the newest that was taken up."""
        return bool(self.manifest_hash) and self._state.get(_FELL_BACK) == self.manifest_hash.hex()

    @property
    def manifest_hash(self) -> bytes:
        """The manifest in use; empty before the first."""
        return self._slots.used.manifest_hash if self._slots.used else b""

    @property
    def state(self) -> Device:
        """Where this device is with the newest release it heard of."""
        return self._slots.state

    @property
    def wanted(self) -> Release | None:
        """The release on chain that is open to us, if it is newer than what we have seen."""
        offer = self.offer()
        return offer.release if offer else None

    @property
    def highest(self) -> int:
        """The highest sequence that was ever verified here."""
        return self._slots.highest

    def tick(self) -> None:
        """See what the chain and time say of what is in the slots, ask for what is missing, tell how it went."""
        self._look_after()
        self._let_go()
        self._look_at()
        self._reporting.tick()
        self.fetching.tick()

    def hear(self, answer: Answer | OutcomeHeard) -> None:
        """Take the gateway's answer."""
        if isinstance(answer, OutcomeHeard):
            self._reporting.heard(answer)
        else:
            self.fetching.hear(answer)

    def recover(self) -> None:
        """Forget an answer, and slots, that a rollback has undone."""
        self.fetching.recover()
        slots = self._read()
        if slots != self._slots:
            self._slots = slots
            self._load()

    @property
    def ready(self) -> bool:
        """Whether the models in use can be asked at all."""
        return self.inference.state() in {"up", "inline"}

    # the chain

    @property
    def known(self) -> Channel:
        """What the chain has of the channel."""
        return self._runtime.replica.channel(self.channel)

    def offer(self) -> Offer | None:
        """What we may go for: the newest open release, or, while it is not our wave's, the last that all took up."""
        known, now, fresh = self.known, self._runtime.clock.now(), not self._runtime.registry.stale
        for release in self._candidates(known, now):
            offer = Offer(known, release, now, fresh)
            if release.sequence != self._slots.refused and offer.open_to(self._slots.highest):
                return offer
        return None

    def _candidates(self, known: Channel, now: float) -> list[Release]:
        newest = known.current(now)
        if newest is None:
            return []
        if newest.sequence in known.completed or not self.fetching.puts_off(newest.sequence, known.head.wave, now):
            return [newest]
        return [one for one in known.releases if one.sequence in known.completed][-1:]

    def _let_go(self) -> None:
        """Stop using, or trying, what was revoked."""
        revoked = self.known.revoked
        if not revoked:
            return
        own = frozenset(one.terms.digest for one in self.known.releases if one.manifest_hash in revoked)
        slots = self._slots.revoked(revoked, own)
        if slots != self._slots:
            self._runtime.note("release-revoked-here", sequence=self.sequence)
            self._keep(slots)

    # taking up

    def take_back(self, offer: Offer) -> bool:
        """Take up again what the fleet goes back to, if one of the slots still has it: that needs nobody."""
        if not offer.returning:
            return False
        notified = self._slots.notified(offer.release.sequence)
        slots = notified.recommitted(offer.release.sequence, offer.release.terms.digest)
        if slots is None:
            return False
        self._keep(slots)
        self._settled(Outcome.COMMITTED, Reason.NONE, slots.active)
        return True

    def take_up(self, bundle: ReleaseBundle, offer: Offer, gate: Gate, model: Model) -> None:
        """Put into a slot what was held against the chain, under that offer, and whose artefacts run."""
        sequence = offer.release.sequence
        ticket, terms = bundle.ticket, offer.release.terms.digest
        names = self._loaded.put(bundle, model)
        install = Install(sequence, ticket.manifest_hash, ticket.pseudonym, terms, gate, names)
        staged = self._slots.notified(sequence).fetched(sequence).verified(install).staged()
        slots = staged.started(self._runtime.clock.now(), returning=offer.returning)
        self._trial.begin()
        self._note("release-verified", install)
        self._keep(slots)
        if slots.state is Device.COMMITTED:
            self._settled(Outcome.COMMITTED, Reason.NONE, install)
        else:
            self._look_at()

    def refuse(self, sequence: int, asked: int, reason: Reason, detail: str = "") -> None:
        """Turn down what came, this or another one having been asked for, and have the gateway told, signed."""
        self._runtime.metrics.count("releases_refused", reason=reason)
        if reason in PASSING:  # it says nothing of the release, which stays wanted as it was
            if self._reporting.remark(asked, reason, self._slots):
                self._runtime.note("release-rejected", sequence=sequence, why=reason, reason=reason)
            return
        if self.wanted is not None and self.wanted.sequence == sequence:
            notified = self._slots.notified(sequence)
            for_good = reason in {Reason.UNUSABLE, Reason.MODEL_OVER}
            self._keep(notified.unusable() if for_good else notified.refetched())
        self._runtime.note("release-rejected", sequence=sequence, why=reason, reason=detail or reason)
        self._reporting.report(sequence, Outcome.REJECTED, reason, self._slots)

    # shadow and trial

    @property
    def reach(self) -> int:
        """How many seconds of the past the models here need."""
        return max((task.reach for task in self._tasks), default=0)

    @property
    def period(self) -> int:
        """The longest period that the models here count in, in seconds."""
        return max((task.period for task in self._tasks), default=0)

    @property
    def compares(self) -> bool:
        """Whether a model here looks at the other devices of the same place."""
        return any(task.peers for task in self._tasks)

    @property
    def _tasks(self) -> list[Features]:
        return [model.features for model in (self.model, self.candidate) if model is not None]

    def forecast(self, device: str, history: History, company: Company = ()) -> Forecast | None:
        """Forecast for a device, under its pseudonym, with the model in use, and unused with one that is on its way."""
        return self.forecast_each([(device, history, company)])[0]

    def forecast_each(self, asked: Sequence[Asked]) -> list[Forecast | None]:
        """Forecast for several devices in one step; None for whom there is none, and nobody waits for one."""
        found = self._trial.forecast_each(self.model, asked)
        failed = next((one for one in found if isinstance(one, Exception) and not _is_nobodys(one)), None)
        if failed is not None and self._slots.state is Device.TRIAL:
            self._failed(failed)
            found = self._trial.forecast_each(self.model, asked)
        if self._fails(found):
            found = self._trial.forecast_each(self.model, asked)
        used = [self._had(one) for one in found]
        if self.candidate is not None:
            self._shadow(self.candidate, [pair for pair in zip(asked, used, strict=True) if pair[0][1]])
        return used

    def _fails(self, found: Sequence[Found]) -> bool:
        """Go on with the model before when the one in use fails again and again; tell whether that was done."""
        blamed = [one for one in found if isinstance(one, Exception) and not _is_nobodys(one)]
        if any(not isinstance(one, Exception) and one is not None for one in found):
            self._failures = 0
        elif blamed:
            self._failures += 1
        install, slots = self._slots.active, self._slots.failed()
        if self._failures < FAILURES or slots == self._slots:
            return False
        self._failures = 0
        self._runtime.note("model-failed", error=type(blamed[0]).__name__ if blamed else "")
        self._fall_back(slots)
        self._settled(Outcome.ROLLED_BACK, Reason.CRASH, install)
        return True

    def _fall_back(self, slots: Slots) -> None:
        """Go on with the model that worked before, and remember that it is that."""
        self._keep(slots)
        self._state.set(_FELL_BACK, self.manifest_hash.hex() or None)

    def _had(self, found: Found) -> Forecast | None:
        if not isinstance(found, Exception):
            return found
        self._runtime.metrics.count("forecasts_missing", reason=type(found).__name__)
        return None

    def _shadow(self, candidate: Model, pairs: Sequence[tuple[Asked, Forecast | None]]) -> None:
        """Forecast unused; whatever a model in the shadow does, the one in use goes on."""
        others = self._trial.forecast_each(candidate, [asked for asked, _ in pairs])
        for ((device, history, _), used), other in zip(pairs, others, strict=True):
            if not isinstance(other, Exception):
                self._write(self._trial.compare(self._slots, device, history, used, other, candidate.features))
            elif not _is_nobodys(other):
                self._failed(other)
                return

    def _failed(self, error: Exception) -> None:
        """Give a model back that raises, whatever the others make of it."""
        self._runtime.note("model-failed", error=type(error).__name__)
        trying = self._slots.state is Device.TRIAL
        self._go_back(self._slots.rolled_back() if trying else self._slots.rejected(), Reason.CRASH)

    def sampled(self, device: str, rows: History, new: int) -> None:
        """Count samples that came, and those between that did not."""
        self._write(self._trial.sampled(self._slots, device, rows, new, self.period or USUAL))

    def _look_at(self) -> None:
        """Let a shadow or trial come to its end; what is paused is not committed."""
        slots, now = self._trial.silence(self._slots, self.period or USUAL), self._runtime.clock.now()
        held = self.known.head.state is ReleaseState.PAUSED
        while True:
            before, (slots, reason) = slots, slots.looked_at(now)
            if slots == before:
                return
            if slots.state is Device.COMMITTED:
                if not held:
                    self._keep(slots)
                    self._settled(Outcome.COMMITTED, Reason.NONE, slots.active)
                return
            if reason is not Reason.NONE:
                self._go_back(slots, reason)
                return
            self._trial.begin()
            self._keep(slots)

    def _go_back(self, slots: Slots, reason: Reason) -> None:
        """Give a candidate back: the model before goes on."""
        outcome = Outcome.REJECTED if slots.state is Device.REJECTED else Outcome.ROLLED_BACK
        install = self._slots.candidate
        measured = self._slots
        self._keep(slots)
        self._settled(outcome, reason, install, measured)

    def _settled(self, outcome: Outcome, reason: Reason, install: Install | None, slots: Slots | None = None) -> None:
        if install is None:
            return
        self._note(f"release-{outcome.replace(' ', '-')}", install, why=reason)
        self._reporting.report(install.sequence, outcome, reason, slots or self._slots, install.pseudonym)

    def _note(self, kind: str, install: Install, **detail: str) -> None:
        manifest = install.manifest_hash.hex()
        self._runtime.note(kind, sequence=install.sequence, manifest=manifest, **detail)

    # the slots

    def _look_after(self) -> None:
        """See that the models' process is up, and that what it was given is what it was when it came."""
        for reason in self.inference.tick():
            self._runtime.metrics.count("forecaster_ended", reason=reason)
            self._runtime.note("forecaster-ended", reason=reason)
        why = self._loaded.spoilt()
        if why:
            self._runtime.note("model-lost", reason=why)
            self._fall_back(self._slots.lost())

    def _start(self) -> None:
        """Count this start against a model on trial, and load what is in use."""
        slots, reason = self._slots.boot()
        with self._runtime.database.transaction():
            if reason is not Reason.NONE:
                self._go_back(slots, reason)
            else:
                self._write(slots)
                self._load()

    def _keep(self, slots: Slots) -> None:
        """Write the slots down, and have in memory what they say is in use."""
        before = self._slots.used
        self._write(slots)
        self._load()
        if slots.used is not None and slots.used != before:
            self._note("release-installed", slots.used)

    def _write(self, slots: Slots) -> None:
        if slots != self._slots or self._state.get(_SLOTS) is None:
            self._state.set(_SLOTS, msgspec.msgpack.encode(slots).hex())
        self._slots = slots

    def _read(self) -> Slots:
        kept = self._state.get(_SLOTS)
        return msgspec.msgpack.decode(bytes.fromhex(kept), type=Slots) if kept else Slots()

    def _load(self) -> None:
        """Have the models of the slots in memory; one that is lost is fetched anew, and the one before goes on."""
        before = None
        while before != self._slots:
            before = self._slots
            self.model, self.candidate = (self._model(one) for one in (before.used, before.shadowed))
        self._loaded.keep((self._slots.active, self._slots.previous, self._slots.candidate))

    def _model(self, install: Install | None) -> Model | None:
        if install is None:
            return None
        try:
            return self._loaded.find(install)
        except (StorageError, ModelRejected) as error:
            self._runtime.note("model-lost", reason=str(error))
            self._write(self._slots.lost())
            self._state.set(_FELL_BACK, self.manifest_hash.hex() or None)
            return None


def _is_nobodys(error: Exception) -> bool:
    """Whether a model is not to blame for a forecast that is missing."""
    return isinstance(error, NoForecast) and not isinstance(error, ModelFailed)
