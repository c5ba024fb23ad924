"""The gateway's models of single devices: one manifest for each processor that has any of them, in the same release.

A run knows devices by the second veil, a processor by the first; only the gateway can put the two together, and which
processor got what is kept sealed. A processor is handed its own manifest and artefacts, and learns of no other's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from quietfleet.crypto import derive, keccak256
from quietfleet.errors import RegistryError
from quietfleet.pipeline.bundle import Bundle, bundle, pack
from quietfleet.pipeline.registry_tables import DEFAULT
from quietfleet.storage import SealedColumn
from quietfleet.workers.messages import ARTEFACT

if TYPE_CHECKING:
    from quietfleet.pipeline.choices import Personal
    from quietfleet.pipeline.registry import Registry
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._state import State

SUFFIX: Final = ".personal"  # of the name under which the registry has them
_NAMED: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
SHELF: Final = 1 << 40  # their places on the shelf begin there, above every version of the channel's own name


class Names(Protocol):
    """Who brought which device, and under what name."""

    def processors(self) -> list[str]:
        """The worker ids of those that brought any."""
        ...

    def names(self, worker: str) -> Mapping[str, str]:
        """A processor's devices: their name in the store → the processor's own."""
        ...


class Given:
    """Which processor got which bundle beside which default: kept sealed, by manifests' digests (keccak-256)."""

    def __init__(self, state: State, secret: bytes, random: Callable[[int], bytes]) -> None:
        self._state = state
        self._sealed = SealedColumn(derive(secret, "storage", b"personal"), "state.personal", random=random)

    def keep(self, manifest_hash: bytes, given: Mapping[str, bytes]) -> None:
        """Write down each processor's manifest."""
        sealed = self._sealed.seal(msgspec.msgpack.encode(given), row=manifest_hash) if given else None
        self._state.set(f"personal:{manifest_hash.hex()}", sealed.hex() if sealed else None)

    def to(self, manifest_hash: bytes) -> dict[str, bytes]:
        """The manifest of each processor that gets one of its own with this default."""
        kept = self._state.get(f"personal:{manifest_hash.hex()}")
        if kept is None:
            return {}
        opened = self._sealed.open(bytes.fromhex(kept), row=manifest_hash)
        return msgspec.msgpack.decode(opened, type=dict[str, bytes])

    def version(self, manifest_hash: bytes) -> int | None:
        """Under which version the registry has a bundle."""
        found: int | None = self._state.get(f"bundle:{manifest_hash.hex()}")
        return found

    def register(self, manifest_hash: bytes, version: int) -> None:
        """Write down a bundle's version."""
        self._state.set(f"bundle:{manifest_hash.hex()}", version)


class Personals:
    """What each processor gets of a release beside the default; everything in the caller's transaction."""

    def __init__(self, runtime: Runtime, state: State, registry: Registry, names: Names) -> None:
        self._runtime = runtime
        self._registry = registry
        self._names = names
        self._name = runtime.settings.gateway.channel + SUFFIX
        self._given = Given(state, runtime.identity.to_bytes(), runtime.random)

    def keep(self, manifest: bytes, artefact: bytes, personal: Personal, *, run: str = "") -> dict[str, int]:
        """Register a bundle for each processor that has devices with models of their own; say how that came out."""
        given: dict[str, bytes] = {}
        devices = 0
        for worker in self._names.processors():
            known = self._names.names(worker)
            models = [(known[one], personal.models[one]) for one in personal.ranked() if _is_plain(known.get(one))]
            made = bundle(manifest, artefact, models, most=ARTEFACT)
            if made.personal:
                given[worker] = self._register(made, run)
                devices += len(made.personal)
        row = keccak256(manifest)
        self._given.keep(row, given)
        if given:
            many = {"devices": devices} if devices >= self._runtime.settings.gateway.k else {}
            self._runtime.note("models-personal", manifest=row.hex(), processors=len(given), **many)
        return {"processors": len(given), "devices": devices}

    def given(self, manifest_hash: bytes) -> dict[str, bytes]:
        """The manifest (keccak-256) of each processor that gets one of its own with this default."""
        return self._given.to(manifest_hash)

    def find(self, manifest_hash: bytes) -> tuple[int, bytes, bytes] | None:
        """Return a bundle's place on the shelf, its manifest and its payload; None when it is nobody's own."""
        version = self._given.version(manifest_hash)
        if version is None:
            return None
        try:
            kept = self._registry.get(self._name, version)
        except RegistryError:
            return None
        personal = {label: data for label, data in kept.artifacts.items() if label != DEFAULT}
        return SHELF + version, kept.manifest, pack(kept.artifact, personal)

    def _register(self, made: Bundle, run: str) -> bytes:
        manifest_hash = keccak256(made.manifest)
        artefacts = {DEFAULT: made.default, **made.personal}
        at = self._runtime.clock.now()
        version = self._registry.register(self._name, made.manifest, artefacts, at=at, run=run)
        self._given.register(manifest_hash, version)
        return manifest_hash


def _is_plain(device: str | None) -> bool:
    """Whether a device can be named in a manifest: its processor chose the name, perhaps in bad faith."""
    return device is not None and device != DEFAULT and _NAMED.fullmatch(device) is not None
