"""What the model registry writes down: versions with their lineage, and every move, which nothing changes later."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from quietfleet.errors import RegistryError

COMPONENT: Final = "registry"
SCHEMA: Final = (
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
    """
    CREATE TABLE model_artifact (
        name TEXT NOT NULL, version INTEGER NOT NULL, label TEXT NOT NULL, object TEXT NOT NULL,
        PRIMARY KEY (name, version, label), FOREIGN KEY (name, version) REFERENCES model_version (name, version)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO model_artifact SELECT name, version, 'default', artifact FROM model_version;
    ALTER TABLE model_version DROP COLUMN artifact;
    ALTER TABLE model_version ADD COLUMN dataset TEXT NOT NULL DEFAULT '';
    ALTER TABLE model_version ADD COLUMN run TEXT NOT NULL DEFAULT '';
    ALTER TABLE model_version ADD COLUMN code TEXT NOT NULL DEFAULT '';
    ALTER TABLE model_version ADD COLUMN parent TEXT NOT NULL DEFAULT '';
    CREATE TABLE model_move (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER, alias TEXT NOT NULL, stage TEXT NOT NULL,
        who TEXT NOT NULL, approved_by TEXT NOT NULL, at REAL NOT NULL, why TEXT NOT NULL, tag BLOB NOT NULL,
        FOREIGN KEY (name, version) REFERENCES model_version (name, version)
    ) STRICT;
    INSERT INTO model_move
        SELECT id, name, version, alias, '', CASE WHEN who GLOB '0x*' THEN 'gateway' ELSE who END, '', at, why, x''
        FROM model_alias ORDER BY id;
    DROP TABLE model_alias;
    CREATE INDEX model_move_alias ON model_move (name, alias, id);
    CREATE INDEX model_move_version ON model_move (name, version, id);
    CREATE TRIGGER model_move_no_update BEFORE UPDATE ON model_move
        BEGIN SELECT raise(ABORT, 'the history of models is append-only'); END;
    CREATE TRIGGER model_move_no_delete BEFORE DELETE ON model_move
        BEGIN SELECT raise(ABORT, 'the history of models is append-only'); END;
    """,
)
MOVE_COLUMNS: Final = "id, name, version, alias, stage, who, approved_by, at, why, tag"

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
PRODUCTION: Final = "production"
DEFAULT: Final = "default"
"""The artefact for every device that has none of its own."""
GATEWAY: Final = "gateway"
"""Who moves what follows the chain."""
CHAIN: Final = "chain"
"""Who approved what the contract let through: its approver, under its own rule of two."""

_ALIAS: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_WORKER: Final = re.compile(
    r"(?<![0-9a-f])(?:(?:0x)?[0-9a-f]{40}|(?:0x)?(?:04)?[0-9a-f]{128})(?![0-9a-f])|enode:", re.IGNORECASE
)
_LONGEST: Final = {"name": 96, "who": 64, "approved_by": 64, "why": 500}


class Stage(StrEnum):
    """Where a version is in its life."""

    NONE = "none"
    STAGING = "staging"
    PRODUCTION = "production"
    ARCHIVED = "archived"
    PRUNED = "pruned"
    """Its artefacts are gone for good; manifest, lineage and history stay."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Where a version comes from: the dataset's id, the run's, the code's hash, the release it was to replace."""

    dataset: str = ""
    run: str = ""
    code: str = ""
    parent: str = ""

    @classmethod
    def of(cls, manifest: bytes, run: str = "") -> Self:
        """Read them from a manifest, as far as it has them."""
        try:
            plain = json.loads(manifest)
            dataset, code, parent = plain.get("dataset", {}), plain.get("code"), plain.get("parent")
            found = dataset.get("id", "")
        except (AttributeError, ValueError, RecursionError):
            return cls(run=run)
        return cls(str(found), run, str(code or ""), "" if parent is None else str(parent))

    def told(self) -> dict[str, str]:
        return {"dataset": self.dataset, "run": self.run, "code": self.code, "parent": self.parent}


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered model with its bytes, checked against their hashes; `artifacts` by label, one of them `default`."""

    name: str
    version: int
    manifest: bytes
    artifacts: Mapping[str, bytes]
    at: float
    facts: Facts = Facts()

    @property
    def artifact(self) -> bytes:
        """The ONNX bytes for every device that has none of its own."""
        return self.artifacts[DEFAULT]


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """A registered model without its bytes: hashes (SHA-256, hex), sizes, where it is, and what means it."""

    name: str
    version: int
    manifest: str
    at: float
    facts: Facts
    stage: Stage
    aliases: tuple[str, ...]
    artifacts: Mapping[str, str]

    def recorded(self) -> dict[str, Any]:
        """What the audit log has of it from its registration on."""
        fixed = {"name": self.name, "version": self.version, "manifest": self.manifest}
        return fixed | {"artifacts": dict(self.artifacts)} | self.facts.told()

    def told(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "at": self.at,
            "stage": self.stage.value,
            "aliases": list(self.aliases),
            "manifest": self.manifest,
            "artifacts": dict(self.artifacts),
            **self.facts.told(),
        }


@dataclass(frozen=True, slots=True)
class Move:
    """Who moved an alias or a version's stage, when (Unix seconds) and why; without a version, nothing is meant."""

    id: int
    name: str
    version: int | None
    alias: str
    stage: str
    who: str
    approved_by: str
    at: float
    why: str
    tag: bytes = b""

    def told(self) -> dict[str, Any]:
        """For the audit log and for programs: everything but the tag."""
        return {column: getattr(self, column) for column in MOVE_COLUMNS.split(", ")[:-1]}

    def tagged(self, key: bytes) -> bytes:
        """The tag under a key of the gateway's: nobody who can merely write the file makes it."""
        text = json.dumps(self.told(), sort_keys=True, separators=(",", ":"))
        return hmac.digest(key, text.encode(), "sha256")


def require_alias(alias: str) -> None:
    """Raise `RegistryError` when an alias is not well formed."""
    if not _ALIAS.fullmatch(alias):
        raise RegistryError(f"an alias is a small letter and up to 31 letters, digits or dashes, not {alias!r:.40}")


def require_words(**words: str) -> None:
    """Raise `RegistryError` for what may not stand in the registry: a worker's address, key or enode."""
    for kind, text in words.items():
        if not text.isprintable() or len(text) > _LONGEST[kind]:
            raise RegistryError(f"{kind} is at most {_LONGEST[kind]} printable characters")
        if _WORKER.search(text):
            raise RegistryError(f"{kind} names a worker: the registry keeps people's names and words alone")
