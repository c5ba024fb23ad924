"""The model a processor runs: it drives `quietfleet.rollout.device`, two slots kept across restarts.

The gateway says where an artefact is on the shelf, or sends all of it, in one message or in pieces. Whichever way it
came, it is held against the processor's own view of the chain: terms, gate, its place in the wave tree, manifest and
artefact. Only then does it take a slot; it forecasts unused beside the active model, is tried, and stays or goes.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

import msgspec

from quietfleet.chain.channel import Channel, Release, ReleaseState
from quietfleet.clock import waits
from quietfleet.crypto import keccak256
from quietfleet.errors import MessageRefused, ModelOver, ModelRejected, ReleaseRefused, StorageError
from quietfleet.pipeline.bundle import unpack
from quietfleet.pipeline.features import Features
from quietfleet.pipeline.runtime import Forecast, Model, load_model
from quietfleet.rollout import PASSING, Device, Gate, Install, Offer, Outcome, Reason, Slots, Ticket
from quietfleet.session import LargeReceived
from quietfleet.storage import ObjectStore, Reference
from quietfleet.workers._reporting import Reporting
from quietfleet.workers._retries import Retries
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._shelf import ArtefactShelf, open_shelf
from quietfleet.workers._state import State
from quietfleet.workers._trial import USUAL, Company, History, Trial
from quietfleet.workers._uplink import Uplink
from quietfleet.workers.messages import (
    LARGEST_RELEASE,
    FetchRelease,
    NoSuchRelease,
    NotYet,
    OutcomeHeard,
    ReleaseAt,
    ReleaseBundle,
    ReleaseComing,
    release_kind,
    unpack_release,
)

ABOUT = "release"
PAUSE = 5.0  # seconds between the first two tries to get a release
LONGEST_PAUSE = 60.0
COMING = 30.0  # seconds within which the first piece of one is announced
NOT_YET = 30.0  # seconds after which a release of another wave is asked for again, unless another one opens before
SHELF_WITHIN = 10.0  # seconds a shelf may take

Opened = Model | ModelRejected
"""What became of a release's artefacts: they run, or why not."""
Answer = ReleaseBundle | ReleaseAt | ReleaseComing | NoSuchRelease | NotYet | OutcomeHeard

_ASKED: Final = "release asked for"
_SLOTS: Final = "slots"


class ModelSlot:
    """One channel's model on this device."""

    def __init__(self, runtime: Runtime, state: State, uplink: Uplink) -> None:
        self._runtime = runtime
        self._state = state
        self._uplink = uplink
        self._name = runtime.settings.processor.channel
        self.channel = keccak256(self._name.encode())
        self._objects = ObjectStore(runtime.folder / "objects")
        self._shelf = open_shelf(runtime.settings)
        self._reporting = Reporting(runtime, state, uplink, self.channel)
        self._missed = 0  # the release that the shelf did not have
        self._found: ReleaseAt | None = None
        self._look: asyncio.Task[None] | None = None
        self._fetch_due = 0.0
        self._retries = Retries(runtime.random, PAUSE, LONGEST_PAUSE)
        self._not_yet: tuple[int, int, float] = (0, 0, 0.0)
        self._models: dict[int, Model] = {}
        self.model: Model | None = None
        self.candidate: Model | None = None
        self._slots = self._read()
        self._trial = Trial(runtime)
        self._start()
        runtime.expects_large = self.expects

    @property
    def sequence(self) -> int:
        """The release in use; 0 before the first."""
        return self._slots.used.sequence if self._slots.used else 0

    @property
    def state(self) -> Device:
        """Where this device is with the newest release it heard of."""
        return self._slots.state

    @property
    def wanted(self) -> Release | None:
        """The release on chain that is open to us, if it is newer than what we have seen."""
        offer = self._offer()
        return offer.release if offer else None

    def tick(self) -> None:
        """See what the chain and time say of what is in the slots, ask for what is missing, tell how it went."""
        self._let_go()
        self._look_at()
        self._reporting.tick()
        self._fetch()

    def hear(self, answer: Answer) -> None:
        """Take the gateway's answer."""
        match answer:
            case ReleaseAt():
                self._directed(answer)
            case ReleaseBundle():
                self.install(answer)
            case ReleaseComing():
                self._fetch_due = self._runtime.clock.now() + COMING
            case NoSuchRelease():
                self._missed = 0  # it may be on the shelf alone: look there again
            case NotYet():
                head = self._known.head
                self._not_yet = answer.sequence, head.wave, self._runtime.clock.now() + NOT_YET
            case OutcomeHeard():
                self._reporting.heard(answer)

    def recover(self) -> None:
        """Forget an answer, and slots, that a rollback has undone."""
        self._found = None
        slots = self._read()
        if slots != self._slots:
            self._slots = slots
            self._load()

    # the chain

    @property
    def _known(self) -> Channel:
        return self._runtime.replica.channel(self.channel)

    def _offer(self) -> Offer | None:
        """What we may go for: the newest open release, or, while it is not our wave's, the last that all took up."""
        known, now, fresh = self._known, self._runtime.clock.now(), not self._runtime.registry.stale
        for release in self._candidates(known, now):
            offer = Offer(known, release, now, fresh)
            if release.sequence != self._slots.refused and offer.open_to(self._slots.highest):
                return offer
        return None

    def _candidates(self, known: Channel, now: float) -> list[Release]:
        newest = known.current(now)
        if newest is None:
            return []
        sequence, wave, until = self._not_yet
        if newest.sequence != sequence or newest.sequence in known.completed:
            return [newest]
        last = [one for one in known.releases if one.sequence in known.completed][-1:]
        return last if wave == known.head.wave and now < until else [newest]

    def _let_go(self) -> None:
        """Stop using, or trying, what was revoked."""
        revoked = self._known.revoked
        if not revoked:
            return
        own = frozenset(one.terms.digest for one in self._known.releases if one.manifest_hash in revoked)
        slots = self._slots.revoked(revoked, own)
        if slots != self._slots:
            self._runtime.note("release-revoked-here", sequence=self.sequence)
            self._keep(slots)

    # fetching

    def _fetch(self) -> None:
        """Ask the gateway for the release we should run."""
        offer, gateway = self._offer(), self._uplink.gateway
        now = self._runtime.clock.now()
        held = waits(now, self._fetch_due, LONGEST_PAUSE) or not self._uplink.free(ABOUT)
        if offer is None or gateway is None or held:
            return
        release = offer.release
        if self._looking or self._coming(gateway, release) or self._take_back(offer):
            return
        self._fetch_due = now + self._retries.pause((release.sequence, offer.channel.head.wave))
        self._state.set(_ASKED, [gateway, release.sequence])
        shelf = self._shelf is not None and self._missed != release.sequence
        places = (ReleaseAt,) if shelf else ()
        asked = FetchRelease(self._name, release.sequence, shelf)
        self._uplink.ask(ABOUT, asked, ReleaseBundle, ReleaseComing, NoSuchRelease, NotYet, *places)

    def _take_back(self, offer: Offer) -> bool:
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

    def install(self, bundle: ReleaseBundle, opened: Opened | None = None) -> None:
        """Take a release up if it is the one the chain opened to us; else the present model stays.

        `opened` is what `_open` made of it, where that was done before.
        """
        try:
            self._take_up(bundle, opened)
        except ReleaseRefused as error:
            self._refuse(bundle.sequence, Reason(error.reason))
        except ModelOver as error:
            self._refuse(bundle.sequence, Reason.MODEL_OVER, str(error))
        except ModelRejected as error:
            reason = Reason.UNUSABLE if _is_genuine(bundle) else Reason.WRONG_BYTES
            self._refuse(bundle.sequence, reason, str(error))

    def _admit(self, sequence: int, ticket: Ticket) -> tuple[Offer, Gate]:
        """Hold what came against the chain, before anything of it is looked into; ReleaseRefused."""
        offer = self._offer()
        if offer is None or sequence != offer.release.sequence:
            raise ReleaseRefused(self._why_not(sequence))
        return offer, offer.admit(ticket, self._slots.highest)

    def _why_not(self, sequence: int) -> Reason:
        """Say what is wrong with a release that came and is not the one we would take up."""
        _, asked = self._asked
        if self._runtime.registry.stale:
            return Reason.STALE_CHAIN
        if sequence <= self._slots.highest or sequence < asked:
            return Reason.OLD_SEQUENCE
        if sequence > asked:
            return Reason.SKIPPED
        release = next((one for one in self._known.releases if one.sequence == sequence), None)
        try:
            if release is not None:
                Offer(self._known, release, self._runtime.clock.now()).check(self._slots.highest)
        except ReleaseRefused as refusal:
            return Reason(refusal.reason)
        return Reason.CLOSED

    def _open(self, bundle: ReleaseBundle) -> Opened:
        """Check a release's artefacts and load them: a large one takes seconds, so that this may run in a thread."""
        try:
            default, personal = unpack(bundle.artefact)
            hash_, now = bundle.ticket.manifest_hash, self._runtime.clock.now()
            return load_model(bundle.manifest, default, hash_, personal, now=now)
        except ModelRejected as error:
            return error

    def _take_up(self, bundle: ReleaseBundle, opened: Opened | None) -> None:
        offer, gate = self._admit(bundle.sequence, bundle.ticket)
        model = opened or self._open(bundle)
        if isinstance(model, ModelRejected):
            raise model
        sequence = offer.release.sequence
        names = (self._objects.put(bundle.manifest), self._objects.put(bundle.artefact))
        install = Install(
            sequence,
            bundle.ticket.manifest_hash,
            bundle.ticket.pseudonym,
            offer.release.terms.digest,
            gate,
            names,
        )
        staged = self._slots.notified(sequence).fetched(sequence).verified(install).staged()
        slots = staged.started(self._runtime.clock.now(), returning=offer.returning)
        self._trial.begin()
        self._note("release-verified", install)
        self._keep(slots, {sequence: model})
        if slots.state is Device.COMMITTED:
            self._settled(Outcome.COMMITTED, Reason.NONE, install)
        else:
            self._look_at()

    def _refuse(self, sequence: int, reason: Reason, detail: str = "") -> None:
        """Turn down what came, and have the gateway told why, under our signature."""
        self._runtime.metrics.count("releases_refused", reason=reason)
        if reason in PASSING:  # it says nothing of the release, which stays wanted as it was
            _, asked = self._asked
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
        try:
            forecast = self._trial.forecast(self.model, device, history, company)
        except Exception as error:
            if self._slots.state is not Device.TRIAL:
                raise
            self._failed(error)
            forecast = self._trial.forecast(self.model, device, history, company)
        if self.candidate is not None and history:
            self._shadow(self.candidate, device, history, company, forecast)
        return forecast

    def _shadow(self, candidate: Model, device: str, history: History, company: Company, used: Forecast | None) -> None:
        try:
            other = self._trial.forecast(candidate, device, history, company)
        except Exception as error:  # noqa: BLE001 - whatever a model in the shadow does, the one in use goes on
            self._failed(error)
            return
        self._write(self._trial.compare(self._slots, device, history, used, other, candidate.features))

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
        held = self._known.head.state is ReleaseState.PAUSED
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

    # in pieces

    def expects(self, peer: str, kind: str, size: int) -> bool:
        """Tell whether this is the release in pieces that we asked this very gateway for, and no larger than any is."""
        release = self.wanted
        if release is None or self._asked != (peer, release.sequence):
            return self._refused("unasked")
        return self._is_as_asked(peer, kind, size)

    def _is_as_asked(self, peer: str, kind: str, size: int) -> bool:
        gateway, sequence = self._asked
        if peer != gateway or kind != release_kind(self._name, sequence):
            return self._refused("unasked")
        return size <= LARGEST_RELEASE or self._refused("oversize")

    @property
    def _asked(self) -> tuple[str, int]:
        """Whom we asked for a release last, and for which."""
        gateway, sequence = self._state.get(_ASKED) or ("", 0)
        return gateway, sequence

    def take(self, event: LargeReceived) -> None:
        """Take a release that came in pieces; each that was asked for is taken once."""
        if not self._is_as_asked(event.peer, event.kind, len(event.data)):
            return
        try:
            self.install(unpack_release(event.data))
        except MessageRefused as error:
            self._refuse(self._asked[1], Reason.WRONG_BYTES, str(error))
        self._state.set(_ASKED, None)

    def _refused(self, reason: str) -> bool:
        self._runtime.metrics.count("large_refused", reason=reason)
        return False

    def _coming(self, gateway: str, release: Release) -> bool:
        kind = release_kind(self._name, release.sequence)
        transfers = self._runtime.messenger.large.incoming.values()
        return any(one.peer == gateway and one.have.kind == kind and not one.over for one in transfers)

    # the shelf

    @property
    def _looking(self) -> bool:
        return self._found is not None or self._look is not None

    def after(self) -> None:
        """Look on the shelf for what the gateway said is there, once that is committed; one look at a time."""
        if self._shelf is not None and self._found is not None and self._look is None:
            self._look = asyncio.create_task(self._look_for(self._shelf, self._found))
            self._found = None

    def _directed(self, at: ReleaseAt) -> None:
        """Look there, unless the gateway shows already that it is not for us."""
        try:
            self._admit(at.sequence, at.ticket)
        except ReleaseRefused as error:
            self._refuse(at.sequence, Reason(error.reason))
        else:
            self._found = at

    async def _look_for(self, shelf: ArtefactShelf, found: ReleaseAt) -> None:
        taken, reason = None, ""
        try:
            artefact = await shelf.get(Reference(found.address, found.key), SHELF_WITHIN)
            bundle = ReleaseBundle(found.sequence, found.ticket, found.manifest, artefact)
            if _is_genuine(bundle):
                taken = bundle, await asyncio.to_thread(self._open, bundle)
            else:
                reason = ModelRejected.__name__
        except Exception as error:  # noqa: BLE001 - whatever a shelf does, the release comes another way
            reason = type(error).__name__
        finally:
            self._look = None
        await self._runtime.guarded(lambda: self._looked(found, taken, reason))

    def _looked(self, found: ReleaseAt, taken: tuple[ReleaseBundle, Opened] | None, reason: str) -> None:
        """Take up what was on the shelf; if it is not what the chain names, ask without the shelf, at once."""
        if taken is not None:
            self.install(*taken)
            return
        offer = self._offer()
        if offer is None or found.sequence != offer.release.sequence:
            return
        self._missed, self._fetch_due = found.sequence, 0.0
        self._runtime.metrics.count("shelf_failures", reason=reason)
        self._runtime.note("shelf-failed", sequence=found.sequence, reason=reason)

    # the slots

    def _start(self) -> None:
        """Count this start against a model on trial, and load what is in use."""
        slots, reason = self._slots.boot()
        with self._runtime.database.transaction():
            if reason is not Reason.NONE:
                self._go_back(slots, reason)
            else:
                self._write(slots)
                self._load()

    def _keep(self, slots: Slots, loaded: dict[int, Model] | None = None) -> None:
        """Write the slots down, and have in memory what they say is in use."""
        before = self._slots.used
        self._write(slots)
        self._load(loaded or {})
        if slots.used is not None and slots.used != before:
            self._note("release-installed", slots.used)

    def _write(self, slots: Slots) -> None:
        if slots != self._slots or self._state.get(_SLOTS) is None:
            self._state.set(_SLOTS, msgspec.msgpack.encode(slots).hex())
        self._slots = slots

    def _read(self) -> Slots:
        kept = self._state.get(_SLOTS)
        return msgspec.msgpack.decode(bytes.fromhex(kept), type=Slots) if kept else Slots()

    def _load(self, loaded: dict[int, Model] | None = None) -> None:
        """Have the models of the slots in memory; one that is lost is fetched anew."""
        known = {**self._models, **(loaded or {})}
        self.model, self.candidate = (self._model(one, known) for one in (self._slots.used, self._slots.shadowed))
        pairs = ((self._slots.used, self.model), (self._slots.shadowed, self.candidate))
        self._models = {one.sequence: model for one, model in pairs if one is not None and model is not None}

    def _model(self, install: Install | None, known: dict[int, Model]) -> Model | None:
        if install is None:
            return None
        if install.sequence in known:
            return known[install.sequence]
        try:
            manifest, artefact = (self._objects.get(name) for name in install.names)
            default, personal = unpack(artefact)
            return load_model(manifest, default, install.manifest_hash, personal)
        except (StorageError, ModelRejected) as error:
            self._runtime.note("model-lost", reason=str(error))
            self._write(self._slots.lost())
            return None


def _is_genuine(bundle: ReleaseBundle) -> bool:
    """Whether the manifest is the ticket's, and names every artefact that came with it."""
    if keccak256(bundle.manifest) != bundle.ticket.manifest_hash:
        return False
    try:
        default, personal = unpack(bundle.artefact)
    except ModelRejected:  # what begins like several may be a single one, of a kind that no device takes
        default, personal = bundle.artefact, {}
    return all(hashlib.sha256(one).hexdigest().encode() in bundle.manifest for one in (default, *personal.values()))
