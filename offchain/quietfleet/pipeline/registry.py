"""Which models exist, which one is champion, and who made it so when and why.

Manifests and artefacts are objects by hash; versions count up per name; an alias is the newest line of its
history, so moving it can never lose what it was before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from quietfleet.errors import RegistryError
from quietfleet.storage import Database, ObjectStore

_SCHEMA: Final = (
    """
    CREATE TABLE model_version (
        name TEXT NOT NULL, version INTEGER NOT NULL, manifest TEXT NOT NULL, artifact TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (name, version)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX model_manifest ON model_version (name, manifest);
    CREATE TABLE model_alias (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL,
        who TEXT NOT NULL, at REAL NOT NULL, why TEXT NOT NULL,
        FOREIGN KEY (name, version) REFERENCES model_version (name, version)
    ) STRICT;
    CREATE INDEX model_alias_current ON model_alias (name, alias, id);
    """,
)
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
_ALIASES: Final = (CHAMPION, CHALLENGER)


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered model with its bytes, checked against their hashes."""

    name: str
    version: int
    manifest: bytes
    artifact: bytes
    at: float


@dataclass(frozen=True, slots=True)
class AliasChange:
    """Who pointed an alias at which version, when (Unix seconds) and why."""

    alias: str
    version: int
    who: str
    at: float
    why: str


class Registry:
    """The gateway's models."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects
        database.migrate("registry", _SCHEMA)

    def register(self, name: str, manifest: bytes, artifact: bytes, *, at: float) -> int:
        """Store a model and return its version; the same manifest again returns the version it already has."""
        with self._database.transaction():
            known = self._version_of(name, hashlib.sha256(manifest).hexdigest())
            if known is not None:
                return known
            version = self._newest(name) + 1
            self._database.execute(
                "INSERT INTO model_version VALUES (?, ?, ?, ?, ?)",
                (name, version, self._objects.put(manifest), self._objects.put(artifact), at),
            )
        return version

    def get(self, name: str, version: int | str) -> ModelVersion:
        """Fetch by version or alias, bytes verified; `RegistryError` when there is none."""
        number = self.resolve(name, version) if isinstance(version, str) else version
        row = self._database.execute(
            "SELECT manifest, artifact, at FROM model_version WHERE name = ? AND version = ?", (name, number)
        ).fetchone()
        if row is None:
            raise RegistryError(f"{name} version {number}")
        return ModelVersion(name, number, self._objects.get(row[0]), self._objects.get(row[1]), row[2])

    def point(self, name: str, alias: str, version: int, *, who: str, at: float, why: str) -> None:
        """Let an alias mean this version from now on."""
        if alias not in _ALIASES:
            raise RegistryError(f"{alias} is neither of {', '.join(_ALIASES)}")
        with self._database.transaction():
            self.get(name, version)
            self._database.execute(
                "INSERT INTO model_alias (name, alias, version, who, at, why) VALUES (?, ?, ?, ?, ?, ?)",
                (name, alias, version, who, at, why),
            )

    def resolve(self, name: str, alias: str) -> int:
        """Return the version an alias means now; `RegistryError` when it was never set."""
        row = self._database.execute(
            "SELECT version FROM model_alias WHERE name = ? AND alias = ? ORDER BY id DESC LIMIT 1", (name, alias)
        ).fetchone()
        if row is None:
            raise RegistryError(f"{name} has no {alias}")
        return int(row[0])

    def history(self, name: str) -> list[AliasChange]:
        """Every move of every alias, oldest first."""
        rows = self._database.execute(
            "SELECT alias, version, who, at, why FROM model_alias WHERE name = ? ORDER BY id", (name,)
        )
        return [AliasChange(*row) for row in rows]

    def _version_of(self, name: str, manifest: str) -> int | None:
        row = self._database.execute(
            "SELECT version FROM model_version WHERE name = ? AND manifest = ?", (name, manifest)
        ).fetchone()
        return int(row[0]) if row else None

    def _newest(self, name: str) -> int:
        query = "SELECT coalesce(max(version), 0) FROM model_version WHERE name = ?"
        return int(self._database.execute(query, (name,)).fetchone()[0])
