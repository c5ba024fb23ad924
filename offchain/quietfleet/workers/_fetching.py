"""How the release that a processor lacks comes to it, and why what came is turned down.

The gateway says where an artefact is on the shelf, or sends all of it, in one message or in pieces. Whichever way it
came, it is held against the processor's own view of the chain: terms, gate, its place in the wave tree, manifest and
artefact. What is anything else is told the gateway, signed, and does not come near a slot.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from quietfleet.chain.channel import Release
from quietfleet.clock import waits
from quietfleet.crypto import keccak256
from quietfleet.errors import MessageRefused, ModelOver, ModelRejected, NoForecast, ReleaseRefused
from quietfleet.pipeline.bundle import unpack
from quietfleet.pipeline.inference import Inference
from quietfleet.pipeline.runtime import Model, check_manifest
from quietfleet.rollout import Gate, Offer, Reason, Ticket
from quietfleet.session import LargeReceived
from quietfleet.storage import Reference
from quietfleet.workers._loading import Opened, open_release
from quietfleet.workers._retries import Retries
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._shelf import ArtefactShelf, open_shelf
from quietfleet.workers._state import State
from quietfleet.workers._uplink import Uplink
from quietfleet.workers.messages import (
    LARGEST_RELEASE,
    FetchRelease,
    NoSuchRelease,
    NotYet,
    ReleaseAt,
    ReleaseBundle,
    ReleaseComing,
    release_kind,
    unpack_release,
)

if TYPE_CHECKING:
    from quietfleet.workers._model_slot import ModelSlot

ABOUT = "release"
PAUSE = 5.0  # seconds between the first two tries to get a release
LONGEST_PAUSE = 60.0
COMING = 30.0  # seconds within which the first piece of one is announced
NOT_YET = 30.0  # seconds after which a release of another wave is asked for again, unless another one opens before
SHELF_WITHIN = 10.0  # seconds a shelf may take

Answer = ReleaseBundle | ReleaseAt | ReleaseComing | NoSuchRelease | NotYet

_ASKED: Final = "release asked for"


class Fetching:
    """Gets what the slots lack."""

    def __init__(self, runtime: Runtime, state: State, uplink: Uplink, slot: ModelSlot, inference: Inference) -> None:
        self._runtime = runtime
        self._state = state
        self._uplink = uplink
        self._slot = slot
        self._inference = inference
        self._name = runtime.settings.processor.channel
        self._shelf = open_shelf(runtime.settings)
        self._missed = 0  # the release that the shelf did not have
        self._found: ReleaseAt | None = None
        self._came: ReleaseBundle | None = None  # and is to be opened
        self._look: asyncio.Task[None] | None = None
        self._due = 0.0
        self._about = (0, 0)  # the release and the wave that were last gone for
        self._retries = Retries(runtime.random, PAUSE, LONGEST_PAUSE)
        self._not_yet: tuple[int, int, float] = (0, 0, 0.0)
        runtime.expects_large = self.expects

    @property
    def asked(self) -> tuple[str, int]:
        """Whom we asked for a release last, and for which."""
        gateway, sequence = self._state.get(_ASKED) or ("", 0)
        return gateway, sequence

    def puts_off(self, sequence: int, wave: int, now: float) -> bool:
        """Whether the gateway said lately that this release, with this wave open, is not for us yet."""
        of, at, until = self._not_yet
        return (of, at) == (sequence, wave) and now < until

    def recover(self) -> None:
        """Forget an answer that a rollback has undone."""
        self._found = self._came = None

    def hear(self, answer: Answer) -> None:
        """Take the gateway's answer."""
        match answer:
            case ReleaseAt():
                self._directed(answer)
            case ReleaseBundle():
                self.install(answer)
            case ReleaseComing():
                self._due = self._runtime.clock.now() + COMING
            case NoSuchRelease():
                self._missed = 0  # it may be on the shelf alone: look there again
            case NotYet():
                head = self._slot.known.head
                self._not_yet = answer.sequence, head.wave, self._runtime.clock.now() + NOT_YET

    def tick(self) -> None:
        """Ask the gateway for the release we should run."""
        offer, gateway = self._slot.offer(), self._uplink.gateway
        now = self._runtime.clock.now()
        if offer is None or gateway is None:
            return
        release, about = offer.release, (offer.release.sequence, offer.channel.head.wave)
        if about != self._about:  # what was put off was another, or another wave's
            self._about, self._due = about, 0.0
        if waits(now, self._due, LONGEST_PAUSE) or not self._uplink.free(ABOUT):
            return
        if self._looking or self._coming(gateway, release) or self._slot.take_back(offer):
            return
        self._due = now + self._retries.pause(about)
        self._state.set(_ASKED, [gateway, release.sequence])
        shelf = self._shelf is not None and self._missed != release.sequence
        places = (ReleaseAt,) if shelf else ()
        asked = FetchRelease(self._name, release.sequence, shelf)
        self._uplink.ask(ABOUT, asked, ReleaseBundle, ReleaseComing, NoSuchRelease, NotYet, *places)

    def install(self, bundle: ReleaseBundle, opened: Opened | None = None) -> None:
        """Take a release up if it is the one the chain opened to us; else the present model stays.

        `opened` is what `open_release` made of it; where that may take long, it is done apart first.
        """
        if isinstance(opened, NoForecast):
            self._runtime.metrics.count("releases_unopened")  # it is asked for again
            return
        with self._refusing(bundle.sequence, lambda: _is_genuine(bundle)):
            offer, gate = self._admit(bundle.sequence, bundle.ticket)
            if opened is None and self._inference.apart:
                self._came = bundle
                return
            model = self._open(bundle) if opened is None else opened
            if isinstance(model, ModelRejected):
                raise model
            if isinstance(model, Model):
                self._slot.take_up(bundle, offer, gate, model)

    def _open(self, bundle: ReleaseBundle) -> Opened:
        return open_release(bundle, self._runtime.clock.now(), self._inference.open)

    @contextmanager
    def _refusing(self, sequence: int, genuine: Callable[[], bool]) -> Iterator[None]:
        """Turn a release down for whatever speaks against it inside."""
        try:
            yield
        except ReleaseRefused as error:
            self._refuse(sequence, Reason(error.reason))
        except ModelOver as error:
            self._refuse(sequence, Reason.MODEL_OVER, str(error))
        except ModelRejected as error:
            self._refuse(sequence, Reason.UNUSABLE if genuine() else Reason.WRONG_BYTES, str(error))

    def _refuse(self, sequence: int, reason: Reason, detail: str = "") -> None:
        self._slot.refuse(sequence, self.asked[1], reason, detail)

    def _admit(self, sequence: int, ticket: Ticket) -> tuple[Offer, Gate]:
        """Hold what came against the chain, before anything of it is looked into; ReleaseRefused."""
        offer = self._slot.offer()
        if offer is None or sequence != offer.release.sequence:
            raise ReleaseRefused(self._why_not(sequence))
        return offer, offer.admit(ticket, self._slot.highest)

    def _why_not(self, sequence: int) -> Reason:
        """Say what is wrong with a release that came and is not the one we would take up."""
        _, asked = self.asked
        if self._runtime.registry.stale:
            return Reason.STALE_CHAIN
        if sequence <= self._slot.highest or sequence < asked:
            return Reason.OLD_SEQUENCE
        if sequence > asked:
            return Reason.SKIPPED
        release = next((one for one in self._slot.known.releases if one.sequence == sequence), None)
        try:
            if release is not None:
                Offer(self._slot.known, release, self._runtime.clock.now()).check(self._slot.highest)
        except ReleaseRefused as refusal:
            return Reason(refusal.reason)
        return Reason.CLOSED

    # in pieces

    def expects(self, peer: str, kind: str, size: int) -> bool:
        """Tell whether this is the release in pieces that we asked this very gateway for, and no larger than any is."""
        release = self._slot.wanted
        if release is None or self.asked != (peer, release.sequence):
            return self._refused("unasked")
        return self._is_as_asked(peer, kind, size)

    def _is_as_asked(self, peer: str, kind: str, size: int) -> bool:
        gateway, sequence = self.asked
        if peer != gateway or kind != release_kind(self._name, sequence):
            return self._refused("unasked")
        return size <= LARGEST_RELEASE or self._refused("oversize")

    def take(self, event: LargeReceived) -> None:
        """Take a release that came in pieces; each that was asked for is taken once."""
        if not self._is_as_asked(event.peer, event.kind, len(event.data)):
            return
        try:
            self.install(unpack_release(event.data))
        except MessageRefused as error:
            self._refuse(self.asked[1], Reason.WRONG_BYTES, str(error))
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
        return self._found is not None or self._came is not None or self._look is not None

    def after(self) -> None:
        """Open what came, and look on the shelf for what is there, once that is committed; one at a time."""
        if self._came is not None and self._look is None:
            self._look = asyncio.create_task(self._open_apart(self._came))
            self._came = None
        if self._shelf is not None and self._found is not None and self._look is None:
            self._look = asyncio.create_task(self._look_for(self._shelf, self._found))
            self._found = None

    def _directed(self, at: ReleaseAt) -> None:
        """Look there, unless the gateway shows already that it is not for us, or nothing that we can run."""
        expected = at.ticket.manifest_hash
        with self._refusing(at.sequence, lambda: keccak256(at.manifest) == expected):
            self._admit(at.sequence, at.ticket)
            check_manifest(at.manifest, expected, now=self._runtime.clock.now())
            self._found = at

    async def _open_apart(self, bundle: ReleaseBundle) -> None:
        try:
            opened = await asyncio.to_thread(self._open, bundle)
        finally:
            self._look = None
        await self._runtime.guarded(lambda: self.install(bundle, opened))

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
        offer = self._slot.offer()
        if offer is None or found.sequence != offer.release.sequence:
            return
        self._missed, self._due = found.sequence, 0.0
        self._runtime.metrics.count("shelf_failures", reason=reason)
        self._runtime.note("shelf-failed", sequence=found.sequence, reason=reason)


def _is_genuine(bundle: ReleaseBundle) -> bool:
    """Whether the manifest is the ticket's, and names every artefact that came with it."""
    if keccak256(bundle.manifest) != bundle.ticket.manifest_hash:
        return False
    try:
        default, personal = unpack(bundle.artefact)
    except ModelRejected:  # what begins like several may be a single one, of a kind that no device takes
        default, personal = bundle.artefact, {}
    return all(hashlib.sha256(one).hexdigest().encode() in bundle.manifest for one in (default, *personal.values()))
