"""The model registry for whoever looks: versions, where each is in its life, and what is meant by which name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from quietfleet.errors import RegistryError
from quietfleet.pipeline.registry_tables import (
    COMPONENT,
    MOVE_COLUMNS,
    PRODUCTION,
    SCHEMA,
    Facts,
    ModelVersion,
    Move,
    Stage,
    VersionEntry,
)
from quietfleet.storage import Database, ObjectStore


class Catalogue:
    """A gateway's registry as it stands, read beside whoever moves things in it."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        """Open somebody's registry; `RegistryError` when it was not made yet."""
        self._database = database
        self._objects = objects
        row = database.execute("SELECT version FROM schema WHERE component = ?", (COMPONENT,)).fetchone()
        if row is None or row[0] != len(SCHEMA):
            raise RegistryError("it was not made yet, or by another version of this program: start the gateway once")

    def get(self, name: str, version: int | str) -> ModelVersion:
        """Fetch by version or alias, bytes verified; `RegistryError` when there is none, `ObjectCorrupt` if damaged."""
        found = self.entry(name, version)
        if found.stage is Stage.PRUNED:
            raise RegistryError(
                f"{name} version {found.version} was pruned: import it again from where it was exported"
            )
        artifacts = {label: self._objects.get(one) for label, one in found.artifacts.items()}
        return ModelVersion(name, found.version, self._objects.get(found.manifest), artifacts, found.at, found.facts)

    def entry(self, name: str, version: int | str) -> VersionEntry:
        """Tell of one version, by number or alias, without its bytes; `RegistryError` when there is none."""
        number = self.resolve(name, version) if isinstance(version, str) else version
        found = next(self._entries("WHERE name = ? AND version = ?", (name, number)), None)
        if found is None:
            raise RegistryError(f"{name} version {number}")
        return found

    def versions(self, name: str | None = None) -> list[VersionEntry]:
        """Tell of every version, of one name or all, in order."""
        chosen, parameters = ("", ()) if name is None else ("WHERE name = ?", (name,))
        return list(self._entries(chosen, parameters))

    def by_manifest(self, name: str, manifest: str) -> int | None:
        """Return the version whose manifest has this SHA-256 (hex), if there is one."""
        return self._version_of(name, manifest)

    def previous(self, name: str) -> int:
        """Return the version that was in production before the present one; `RegistryError` when there was none."""
        line = [move.version for move in self.history(name) if move.alias == PRODUCTION and move.version is not None]
        present = self.aliases(name).get(PRODUCTION)
        before = next((one for one in reversed(line) if one != present), None)
        if before is None:
            raise RegistryError(f"{name} had no other version in {PRODUCTION}")
        return before

    def snapshot(self) -> AbstractContextManager[None]:
        """Read everything inside as of one moment."""
        return self._database.snapshot()

    def resolve(self, name: str, alias: str) -> int:
        """Return the version an alias means now; `RegistryError` when it means none."""
        found = self.aliases(name).get(alias)
        if found is None:
            raise RegistryError(f"{name} has no {alias}")
        return found

    def aliases(self, name: str) -> dict[str, int]:
        """Every alias with the version it means."""
        query = (
            "SELECT alias, version FROM model_move WHERE name = ? AND id IN"
            " (SELECT max(id) FROM model_move WHERE name = ? AND alias != '' GROUP BY alias) ORDER BY alias"
        )
        rows = self._database.execute(query, (name, name)).fetchall()
        return {alias: version for alias, version in rows if version is not None}

    def history(self, name: str | None = None, *, after: int = 0) -> list[Move]:
        """Every move of every alias and stage, of one name or all, oldest first."""
        rows = self._database.execute(
            f"SELECT {MOVE_COLUMNS} FROM model_move WHERE id > ? AND (? IS NULL OR name = ?) ORDER BY id",  # noqa: S608 - its own columns
            (after, name, name),
        )
        return [Move(*row) for row in rows.fetchall()]

    @property
    def objects(self) -> ObjectStore:
        return self._objects

    def referred(self) -> frozenset[str]:
        """The hashes of every object that a version refers to; of one that was pruned that is its manifest alone."""
        rows = self._database.execute(
            "SELECT manifest FROM model_version UNION SELECT object FROM model_artifact AS a WHERE coalesce(("
            "SELECT stage FROM model_move AS m WHERE m.name = a.name AND m.version = a.version AND stage != ''"
            " ORDER BY id DESC LIMIT 1), '') != ?",
            (Stage.PRUNED.value,),
        )
        return frozenset(name for (name,) in rows.fetchall())

    def _entries(self, chosen: str, parameters: tuple[Any, ...]) -> Iterator[VersionEntry]:
        rows = self._database.execute(
            "SELECT name, version, manifest, at, dataset, run, code, parent FROM model_version"  # noqa: S608 - as above
            f" {chosen} ORDER BY name, version",
            parameters,
        ).fetchall()
        aliases = {name: self.aliases(name) for name in {row[0] for row in rows}}
        for name, version, manifest, at, *facts in rows:
            meant = tuple(alias for alias, one in aliases[name].items() if one == version)
            artifacts = self._database.execute(
                "SELECT label, object FROM model_artifact WHERE name = ? AND version = ? ORDER BY label",
                (name, version),
            ).fetchall()
            stage = self._stage(name, version)
            yield VersionEntry(name, version, manifest, at, Facts(*facts), stage, meant, dict(artifacts))

    def _stage(self, name: str, version: int) -> Stage:
        row = self._database.execute(
            "SELECT stage FROM model_move WHERE name = ? AND version = ? AND stage != '' ORDER BY id DESC LIMIT 1",
            (name, version),
        ).fetchone()
        return Stage(row[0]) if row else Stage.NONE

    def _version_of(self, name: str, manifest: str) -> int | None:
        row = self._database.execute(
            "SELECT version FROM model_version WHERE name = ? AND manifest = ?", (name, manifest)
        ).fetchone()
        return int(row[0]) if row else None
