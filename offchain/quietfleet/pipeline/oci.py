"""A model release as an OCI artifact: what any container registry keeps, copies, signs and mirrors like an image.

Its config is the release's manifest, byte for byte, its layers are the ONNX artefacts under their titles. All of it
follows from the release, so whoever exports one gets the same digests. What comes back from a registry is held
against the manifest before a byte of a layer is read.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from quietfleet.crypto import keccak256
from quietfleet.errors import LayoutRefused
from quietfleet.pipeline import onnx_guard
from quietfleet.pipeline.registry_tables import DEFAULT, Facts, ModelVersion
from quietfleet.pipeline.runtime import MAXIMUM_MANIFEST_BYTES, load_model
from quietfleet.storage import OciLayout
from quietfleet.storage._oci_layout import LAYOUT_MARK, REF_FORM, TITLE, Descriptor, Image, Size

ARTIFACT_TYPE: Final = "application/vnd.quietfleet.model.v1"
CONFIG_TYPE: Final = "application/vnd.quietfleet.model.manifest.v1+json"
ONNX_TYPE: Final = "application/vnd.quietfleet.model.onnx.v1"
MANIFEST_HASH: Final = "io.quietfleet.manifest.keccak256"
"""Annotation: the release's name on chain, 0x and 64 hexadecimal digits."""
MOST_BYTES: Final = 8 << 20
"""What all artefacts of a release may have together: as much as a shelf hands out."""

_VERSION: Final = "org.opencontainers.image.version"
_CREATED: Final = "org.opencontainers.image.created"
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_LONGEST: Final = 100  # characters of a model's name; a tag has 128
_YEAR_9999: Final = 253_402_300_799


class _Named(msgspec.Struct, frozen=True):
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    size: Size


class _Models(msgspec.Struct, frozen=True):
    default: _Named
    personal: dict[Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")], _Named]


class _Manifest(msgspec.Struct, frozen=True):
    """What of a release's manifest decides about its layout."""

    created_at: Annotated[int, msgspec.Meta(ge=0, le=_YEAR_9999)]
    models: _Models


class _Face(NamedTuple):
    """A layer to be: the label of its artefact, its title, digest and size."""

    label: str
    title: str
    digest: str
    size: int


def reference_of(model: ModelVersion) -> str:
    """What a release is called in a layout; its version is a fine tag in a registry."""
    return f"{model.name}-{model.version}"


def is_layout(folder: Path) -> bool:
    """Whether a folder is an OCI image layout."""
    return (folder / LAYOUT_MARK).is_file()


def write_release(model: ModelVersion, folder: Path | str) -> str:
    """Add a release to the layout in `folder` and return its digest; exporting it again changes nothing.

    LayoutRefused if it cannot be called by its name there, or another release is.
    """
    if not re.fullmatch(REF_FORM, model.name) or len(model.name) > _LONGEST:
        raise LayoutRefused(f"{model.name!r} cannot be a tag: letters and digits, with single . _ - in between")
    annotations, faces = _described(model.name, model.version, model.manifest)
    titled = [(face.title, _artifact(model, face.label)) for face in faces]
    with OciLayout(folder).writing() as layout:
        layers = [layout.put(ONNX_TYPE, data, {TITLE: title}) for title, data in titled]
        _require_promised(reference_of(model), layers, faces)
        config = layout.put(CONFIG_TYPE, model.manifest)
        image = Image(config=config, layers=layers, artifact_type=ARTIFACT_TYPE, annotations=annotations)
        return layout.name(reference_of(model), image).digest


def read_release(folder: Path | str, reference: str | None = None) -> ModelVersion:
    """Return a release, with every size and digest as promised; LayoutRefused otherwise.

    Without `reference`, the only one there is. What is inside the artefacts is not looked at: `take_release` does that.
    """
    layout = OciLayout(folder)
    reference = layout.only() if reference is None else reference
    image = layout.image(reference)
    if image.artifact_type != ARTIFACT_TYPE or image.config.media_type != CONFIG_TYPE:
        raise LayoutRefused(f"{reference} is no model but {image.artifact_type or image.config.media_type!r:.80}")
    manifest = layout.blob(image.config, most=MAXIMUM_MANIFEST_BYTES)
    name, version = image.annotations.get(TITLE, ""), image.annotations.get(_VERSION, "")
    if not _NUMBER.fullmatch(version):
        raise LayoutRefused(f"{reference} has no version")
    annotations, faces = _described(name, int(version), manifest)
    if image.annotations != annotations:
        raise LayoutRefused(f"what is written on {reference} is not what its manifest says")
    _require_promised(reference, image.layers, faces)
    if sum(face.size for face in faces) > MOST_BYTES:
        raise LayoutRefused(f"{reference} has more than {MOST_BYTES} bytes of models")
    blobs = [layout.blob(layer, most=onnx_guard.MAXIMUM_BYTES) for layer in image.layers]
    artifacts = {face.label: data for face, data in zip(faces, blobs, strict=True)}
    created = datetime.fromisoformat(annotations[_CREATED]).timestamp()
    return ModelVersion(name, int(version), manifest, artifacts, created, Facts.of(manifest))


def take_release(folder: Path | str, reference: str | None, *, now: float) -> ModelVersion:
    """Read a release and check it as a device does, at `now` (Unix s); ModelRejected at the first doubt."""
    model = read_release(folder, reference)
    personal = {label: data for label, data in model.artifacts.items() if label != DEFAULT}
    load_model(model.manifest, model.artifact, keccak256(model.manifest), personal, now=now)
    return model


def _described(name: str, version: int, manifest: bytes) -> tuple[dict[str, str], list[_Face]]:
    """What is written on a release, and what its layers are."""
    try:
        plain = msgspec.json.decode(manifest, type=_Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LayoutRefused(f"the manifest of {name!r:.80} is none of a model: {error!s:.80}") from error
    if DEFAULT in plain.models.personal:
        raise LayoutRefused(f"{DEFAULT} is no pseudonym")
    personal = [(device, f"personal/{device}.onnx", one) for device, one in sorted(plain.models.personal.items())]
    named = [(DEFAULT, f"{DEFAULT}.onnx", plain.models.default), *personal]
    created = datetime.fromtimestamp(plain.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    hashed = "0x" + keccak256(manifest).hex()
    faces = [_Face(label, title, f"sha256:{one.sha256}", one.size) for label, title, one in named]
    return {TITLE: name, _VERSION: str(version), _CREATED: created, MANIFEST_HASH: hashed}, faces


def _require_promised(reference: str, layers: list[Descriptor], faces: list[_Face]) -> None:
    if layers != [Descriptor(ONNX_TYPE, face.digest, face.size, {TITLE: face.title}) for face in faces]:
        raise LayoutRefused(f"the layers of {reference} are not those of its manifest")


def _artifact(model: ModelVersion, label: str) -> bytes:
    if label not in model.artifacts:
        raise LayoutRefused(f"the registry lacks the model of {label}, which the manifest names")
    return model.artifacts[label]
