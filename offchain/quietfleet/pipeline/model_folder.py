"""A model as files, `manifest.json`, `model.onnx` and `personal/<device>.onnx`: from a run, or to another gateway.

What comes in passes every check of a device first. What goes out is a new folder, whole or not there.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from quietfleet.crypto import keccak256
from quietfleet.errors import RegistryError
from quietfleet.pipeline.onnx_guard import MAXIMUM_BYTES
from quietfleet.pipeline.registry_tables import DEFAULT, ModelVersion
from quietfleet.pipeline.runtime import MAXIMUM_MANIFEST_BYTES, load_model
from quietfleet.storage import fault_of

_MANIFEST: Final = "manifest.json"
_MODEL: Final = "model.onnx"
_PERSONAL: Final = "personal"
_DEVICE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def read_model(folder: Path, *, now: float) -> tuple[bytes, dict[str, bytes]]:
    """Return manifest and artefacts by label; `RegistryError` when they are not there, `ModelRejected` when bad."""
    manifest = _read(folder / _MANIFEST, MAXIMUM_MANIFEST_BYTES)
    default = _read(folder / _MODEL, MAXIMUM_BYTES)
    personal = {device: _read(folder / _PERSONAL / f"{device}.onnx", MAXIMUM_BYTES) for device in _devices(manifest)}
    load_model(manifest, default, keccak256(manifest), personal, now=now)
    return manifest, {DEFAULT: default, **personal}


def write_model(model: ModelVersion, folder: Path) -> None:
    """Write a version to a folder that is not there yet."""
    personal = {label: data for label, data in model.artifacts.items() if label != DEFAULT}
    with new_folder(folder) as place:
        (place / _MANIFEST).write_bytes(model.manifest)
        (place / _MODEL).write_bytes(model.artifact)
        for device, data in personal.items():
            _require_device(device)
            (place / _PERSONAL).mkdir(exist_ok=True)
            (place / _PERSONAL / f"{device}.onnx").write_bytes(data)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder beside `folder` that takes its place at the end, and leaves nothing if something fails."""
    if folder.exists() and any(folder.iterdir()):
        raise RegistryError(f"{folder} is not empty: name a new folder")
    place = folder.with_name(f".{folder.name}.new")
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        yield place
        if folder.exists():
            folder.rmdir()
        place.rename(folder)
    except BaseException as error:
        shutil.rmtree(place, ignore_errors=True)
        fault = fault_of(error)
        if fault is None or fault is error:
            raise
        raise fault from error


def _devices(manifest: bytes) -> list[str]:
    """The devices that a manifest has models of; load_model judges the rest of it."""
    try:
        named: Mapping[str, object] = json.loads(manifest)["models"]["personal"]
        devices = list(named.keys())
    except (AttributeError, ValueError, LookupError, TypeError, RecursionError):
        return []
    for device in devices:
        _require_device(device)
    return devices


def _require_device(device: str) -> None:
    if not _DEVICE.fullmatch(device):
        raise RegistryError(f"{device!r:.80} is no device's pseudonym")


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise RegistryError(f"{path}: {error.strerror}") from error
    if len(data) > most:
        raise RegistryError(f"{path} has more than {most} bytes")
    return data
