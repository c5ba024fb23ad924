"""Is the model registry what it was: bytes by their hashes, manifests by their artefacts, moves by the audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from quietfleet.errors import ObjectMissing, StorageError
from quietfleet.pipeline.registry import MOVED, REGISTERED, Registry
from quietfleet.pipeline.registry_catalogue import Catalogue
from quietfleet.pipeline.registry_tables import Move, Stage, VersionEntry
from quietfleet.storage import AuditEntry, AuditLog


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not what it was: of which model, and what is wrong in a few words."""

    name: str
    version: int | None
    fault: str

    def told(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version, "fault": self.fault}

    def __str__(self) -> str:
        return f"{self.name} {self.version or ''}".strip() + f": {self.fault}"


def check(registry: Catalogue, log: AuditLog) -> list[Finding]:
    """Read every object and every line, and hold them against the audit log.

    A registry that has its key also tells which moves were written under it; one opened to look at cannot.
    """
    with registry.snapshot():
        versions, moves = registry.versions(), registry.history()
        registered, moved = (list(log.entries(kind=kind)) for kind in (REGISTERED, MOVED))
    found = [fault for one in versions for fault in _objects(registry, one)]
    found += _registrations(versions, registered)
    found += _moves(registry, moves, moved)
    return found


def _objects(registry: Catalogue, one: VersionEntry) -> Iterator[Finding]:
    left = {} if one.stage is Stage.PRUNED else one.artifacts
    objects = {"manifest": one.manifest, **{f"artefact {label}": name for label, name in left.items()}}
    for label, name in objects.items():
        try:
            registry.objects.get(name)
        except ObjectMissing:
            yield Finding(one.name, one.version, f"{label} is missing, {name}")
        except StorageError:  # also where the line names no hash at all
            yield Finding(one.name, one.version, f"{label} is damaged, {name}")
    yield from _promises(registry, one)


def _promises(registry: Catalogue, one: VersionEntry) -> Iterator[Finding]:
    """A manifest names its artefacts' hashes; another's bytes are not its own, however whole they are."""
    try:
        models = json.loads(registry.objects.get(one.manifest))["models"]
        promised = {"default": models["default"]["sha256"]} | {
            device: each["sha256"] for device, each in models["personal"].items()
        }
    except (StorageError, ValueError, LookupError, TypeError, AttributeError):
        return  # told already, or no manifest that promises anything
    if promised != dict(one.artifacts):
        yield Finding(one.name, one.version, "its artefacts are not those that its manifest names")


def _registrations(versions: list[VersionEntry], kept: list[AuditEntry]) -> Iterator[Finding]:
    told = {(entry.detail["name"], entry.detail["version"]): entry for entry in kept}
    for one in versions:
        entry = told.pop((one.name, one.version), None)
        if entry is None:
            yield Finding(one.name, one.version, "the audit log does not know of its registration")
        elif entry.at != one.at or any(entry.detail[fact] != value for fact, value in one.recorded().items()):
            yield Finding(one.name, one.version, f"audit entry {entry.sequence} has it registered as something else")
    for (name, version), entry in told.items():
        yield Finding(name, version, f"it is gone, though audit entry {entry.sequence} has it registered")


def _moves(registry: Catalogue, moves: list[Move], kept: list[AuditEntry]) -> Iterator[Finding]:
    told = {entry.detail["id"]: entry for entry in kept}
    for move in moves:
        entry = told.pop(move.id, None)
        what = f"move {move.id} of {move.alias or 'its stage'} by {move.who}"
        if entry is None:
            yield Finding(move.name, move.version, f"{what} is not in the audit log")
        elif any(entry.detail.get(column) != value for column, value in move.told().items()):
            yield Finding(move.name, move.version, f"{what} is another in audit entry {entry.sequence}")
        elif isinstance(registry, Registry) and not registry.genuine(move):
            yield Finding(move.name, move.version, f"{what} was not written by this gateway")
    for number, entry in told.items():
        gone = f"move {number} is gone, though audit entry {entry.sequence} has it"
        yield Finding(entry.detail["name"], entry.detail["version"], gone)


def orphans(registry: Catalogue) -> list[str]:
    """Objects (SHA-256, hex) that no version refers to."""
    referred = registry.referred()
    return [name for name in registry.objects.names() if name not in referred]
