"""Models in memory, and how they come there: checked whole, from what came or from disk, or not at all."""

from __future__ import annotations

from collections.abc import Iterable

from quietfleet.errors import ModelRejected, NoForecast
from quietfleet.pipeline.bundle import unpack
from quietfleet.pipeline.inference import Inference
from quietfleet.pipeline.runtime import Model, Opener, load_model
from quietfleet.rollout import Install
from quietfleet.storage import ObjectStore
from quietfleet.workers.messages import ReleaseBundle

Opened = Model | ModelRejected | NoForecast
"""What became of a release's artefacts: they run, or why not, or nobody can tell now."""


def open_release(bundle: ReleaseBundle, now: float, opener: Opener) -> Opened:
    """Check a release's artefacts and load them: a large one takes seconds, so that this may run in a thread."""
    try:
        default, personal = unpack(bundle.artefact)
        return load_model(bundle.manifest, default, bundle.ticket.manifest_hash, personal, now=now, opener=opener)
    except (ModelRejected, NoForecast) as error:
        return error
    except Exception as error:  # noqa: BLE001 - what a check stumbles over has not passed it
        return ModelRejected(f"a check failed: {type(error).__name__}")


class Loaded:
    """The models of the slots by their manifests' digests, and their objects on disk.

    What a slot still has stays in memory: to go back to it must not take the time of a large one's checks.
    """

    def __init__(self, objects: ObjectStore, inference: Inference) -> None:
        self._objects = objects
        self._inference = inference
        self._models: dict[bytes, Model] = {}

    def put(self, bundle: ReleaseBundle, model: Model) -> tuple[str, str]:
        """Keep a model that was opened; return its objects' names."""
        self._models[bundle.ticket.manifest_hash] = model
        return self._objects.put(bundle.manifest), self._objects.put(bundle.artefact)

    def find(self, install: Install) -> Model:
        """Return the model of a slot, if need be from disk, checked anew; StorageError or ModelRejected."""
        if install.manifest_hash not in self._models:
            manifest, artefact = (self._objects.get(name) for name in install.names)
            default, personal = unpack(artefact)
            self._models[install.manifest_hash] = load_model(
                manifest, default, install.manifest_hash, personal, opener=self._inference.restore
            )
        return self._models[install.manifest_hash]

    def keep(self, installs: Iterable[Install | None]) -> None:
        """Let go of all models but these."""
        staying = {one.manifest_hash for one in installs if one is not None}
        self._models = {name: model for name, model in self._models.items() if name in staying}
        self._inference.keep(model.runner for model in self._models.values())

    def spoilt(self) -> str:
        """Let go of models that were put into place unchecked and proved to be none; say why, if there were any."""
        refused = {name: self._inference.refused(model.runner) for name, model in self._models.items()}
        self._models = {name: model for name, model in self._models.items() if not refused[name]}
        return next(filter(None, refused.values()), "")
