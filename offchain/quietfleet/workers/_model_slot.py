"""The model a processor runs: the release the chain names, verified byte for byte, kept across restarts."""

from __future__ import annotations

from quietfleet.chain.channel import Release
from quietfleet.crypto import keccak256
from quietfleet.errors import ModelRejected, StorageError
from quietfleet.pipeline.runtime import Model, load_model
from quietfleet.storage import ObjectStore
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State
from quietfleet.workers._uplink import Uplink
from quietfleet.workers.messages import FetchRelease, NoSuchRelease, ReleaseBundle, ReleaseOutcome

ABOUT = "release"
PAUSE = 5.0  # seconds between two tries to get a release


class ModelSlot:
    """One channel's model on this device."""

    def __init__(self, runtime: Runtime, state: State, uplink: Uplink) -> None:
        self._runtime = runtime
        self._state = state
        self._uplink = uplink
        self._name = runtime.settings.processor.channel
        self.channel = keccak256(self._name.encode())
        self._objects = ObjectStore(runtime.folder / "objects")
        self._fetch_due = 0.0
        self.model = self._load()

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
        release = self.wanted
        now = self._runtime.clock.now()
        if release is not None and now >= self._fetch_due and self._uplink.free(ABOUT):
            self._fetch_due = now + PAUSE
            self._uplink.ask(ABOUT, FetchRelease(self._name, release.sequence), ReleaseBundle, NoSuchRelease)

    def install(self, bundle: ReleaseBundle) -> None:
        """Take a release up if it is the one the chain names; anything else leaves the present model in place."""
        release = self.wanted
        if release is None or bundle.sequence != release.sequence:
            return
        try:
            model = load_model(bundle.manifest, bundle.artefact, release.manifest_hash)
        except ModelRejected as error:
            self._runtime.note("release-rejected", sequence=bundle.sequence, reason=str(error))
            self._uplink.tell(ReleaseOutcome(bundle.sequence, installed=False))
            return
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
