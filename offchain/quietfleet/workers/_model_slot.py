"""The model a processor runs: the release the chain names, verified byte for byte, kept across restarts.

The gateway says where its artefact is on the shelf, or sends all of it, in one message or in pieces. What the shelf
hands out is held against its address, and everything, whichever way it came, against the manifest the chain names;
where the shelf does not have it, the release is asked for again without it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from quietfleet.chain.channel import Release
from quietfleet.clock import waits
from quietfleet.crypto import keccak256
from quietfleet.errors import ModelRejected, StorageError
from quietfleet.pipeline.runtime import Model, load_model
from quietfleet.session import LargeReceived
from quietfleet.storage import ObjectStore, Reference
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._shelf import ArtefactShelf, open_shelf
from quietfleet.workers._state import State
from quietfleet.workers._uplink import Uplink
from quietfleet.workers.messages import (
    LARGEST_RELEASE,
    FetchRelease,
    NoSuchRelease,
    ReleaseAt,
    ReleaseBundle,
    ReleaseComing,
    ReleaseOutcome,
    release_kind,
    unpack_release,
)

ABOUT = "release"
PAUSE = 5.0  # seconds between two tries to get a release
COMING = 30.0  # seconds within which the first piece of one is announced
SHELF_WITHIN = 10.0  # seconds a shelf may take

Answer = ReleaseBundle | ReleaseAt | ReleaseComing | NoSuchRelease

_ASKED: Final = "release asked for"


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
        self._missed = 0  # the release that the shelf did not have
        self._found: ReleaseAt | None = None
        self._look: asyncio.Task[None] | None = None
        self._fetch_due = 0.0
        self.model = self._load()
        runtime.expects_large = self.expects

    @property
    def sequence(self) -> int:
        """The release installed; 0 before the first."""
        return int(self._state.get("release", 0))

    @property
    def wanted(self) -> Release | None:
        """The release on chain that is open to us, if it is newer than ours."""
        release = self._runtime.replica.current_release(self.channel, self._runtime.clock.now())
        return release if release and release.sequence > self.sequence else None

    def fetch(self) -> None:
        """Ask the gateway for the release we should run."""
        release, gateway = self.wanted, self._uplink.gateway
        now = self._runtime.clock.now()
        if release is None or gateway is None or waits(now, self._fetch_due, COMING) or not self._uplink.free(ABOUT):
            return
        if self._looking or self._coming(gateway, release):
            return
        self._fetch_due = now + PAUSE
        self._state.set(_ASKED, [gateway, release.sequence])
        shelf = self._shelf is not None and self._missed != release.sequence
        places = (ReleaseAt,) if shelf else ()
        asked = FetchRelease(self._name, release.sequence, shelf)
        self._uplink.ask(ABOUT, asked, ReleaseBundle, ReleaseComing, NoSuchRelease, *places)

    def hear(self, answer: Answer) -> None:
        """Take the gateway's answer."""
        match answer:
            case ReleaseAt():
                self._found = answer
            case ReleaseBundle():
                self.install(answer)
            case ReleaseComing():
                self._fetch_due = self._runtime.clock.now() + COMING

    def install(self, bundle: ReleaseBundle) -> None:
        """Take a release up if it is the one the chain names; anything else leaves the present model in place."""
        release = self.wanted
        if release is None or bundle.sequence != release.sequence:
            return
        try:
            self._take_up(bundle, release)
        except ModelRejected as error:
            self._runtime.note("release-rejected", sequence=bundle.sequence, reason=str(error))
            self._uplink.tell(ReleaseOutcome(bundle.sequence, installed=False))

    def recover(self) -> None:
        """Forget an answer that a rollback has undone."""
        self._found = None

    # in pieces

    def expects(self, peer: str, kind: str, size: int) -> bool:
        """Tell whether this is the release in pieces that we asked this very gateway for, and no larger than any is."""
        release = self.wanted
        asked = release is not None and self._state.get(_ASKED) == [peer, release.sequence]
        if not asked or release is None or kind != release_kind(self._name, release.sequence):
            return self._refused("unasked")
        return size <= LARGEST_RELEASE or self._refused("oversize")

    def take(self, event: LargeReceived) -> None:
        """Take a release that came in pieces; each that was asked for is taken once."""
        release = self.wanted
        if self.expects(event.peer, event.kind, len(event.data)) and release is not None:
            self._state.set(_ASKED, None)
            self.install(unpack_release(release.sequence, event.data))

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

    async def _look_for(self, shelf: ArtefactShelf, found: ReleaseAt) -> None:
        artefact, reason = None, ""
        try:
            artefact = await shelf.get(Reference(found.address, found.key), SHELF_WITHIN)
        except Exception as error:  # noqa: BLE001 - whatever a shelf does, the release comes another way
            reason = type(error).__name__
        finally:
            self._look = None
        await self._runtime.guarded(lambda: self._looked(found, artefact, reason))

    def _looked(self, found: ReleaseAt, artefact: bytes | None, reason: str) -> None:
        """Take up what was on the shelf; if it is not what the chain names, ask without the shelf, at once."""
        release = self.wanted
        if release is None or found.sequence != release.sequence:
            return
        if artefact is not None:
            try:
                self._take_up(ReleaseBundle(found.sequence, found.manifest, artefact), release)
            except ModelRejected as error:
                reason = str(error)
            else:
                return
        self._missed, self._fetch_due = found.sequence, 0.0
        self._runtime.metrics.count("shelf_failures", reason=reason if artefact is None else "ModelRejected")
        self._runtime.note("shelf-failed", sequence=found.sequence, reason=reason)

    # the model

    def _take_up(self, bundle: ReleaseBundle, release: Release) -> None:
        model = load_model(bundle.manifest, bundle.artefact, release.manifest_hash)
        names = [self._objects.put(bundle.manifest), self._objects.put(bundle.artefact)]
        self._state.set("model", {"names": names, "hash": release.manifest_hash.hex()})
        self._state.set("release", release.sequence)
        self._runtime.note("release-installed", sequence=release.sequence, manifest=release.manifest_hash.hex())
        self._uplink.tell(ReleaseOutcome(release.sequence, installed=True))
        self.model = model

    def _load(self) -> Model | None:
        kept = self._state.get("model")
        if kept is None:
            return None
        try:
            manifest, artefact = (self._objects.get(name) for name in kept["names"])
            return load_model(manifest, artefact, bytes.fromhex(kept["hash"]))
        except (StorageError, ModelRejected) as error:
            self._runtime.note("model-lost", reason=str(error))
            self._state.set("release", None)  # it is fetched anew
            return None
