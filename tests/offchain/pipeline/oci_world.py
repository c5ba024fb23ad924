"""Releases to export, and folders read whole."""

from __future__ import annotations

import hashlib
import json

from quietfleet.pipeline.package import canonical
from quietfleet.pipeline.registry_tables import DEFAULT, Facts, ModelVersion


def exported(candidate, *, name="weather", version=1, devices=0):
    """The candidate as a registered release; `devices` have a model of their own."""
    manifest = json.loads(candidate.manifest)
    manifest["parent"] = version - 1 or None
    named = {"sha256": hashlib.sha256(candidate.artifact).hexdigest(), "size": len(candidate.artifact)}
    own = [f"{number:032x}" for number in range(devices)]
    manifest["models"]["personal"] = dict.fromkeys(own, named)
    return registered(name, version, canonical(manifest), dict.fromkeys([DEFAULT, *own], candidate.artifact))


def registered(name, version, manifest, artifacts):
    """A version as it comes from a layout: its time is its manifest's."""
    return ModelVersion(name, version, manifest, artifacts, json.loads(manifest)["created_at"], Facts.of(manifest))


def read_all(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
