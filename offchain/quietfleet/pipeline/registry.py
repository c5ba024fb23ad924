"""Which models exist, where each is in its life, what is called champion or production, and who made it so and why.

Manifests and artefacts are objects by hash; versions count up per name. A version's stage and what an alias means are
the newest lines of a history that only grows, so a move can never lose what was before. `production` is what the fleet
is to run: it is moved by two persons, or by the gateway as the chain, which has its own rule of two, completes a
release. `champion` is the release that the chain has open, `challenger` the newest that was trained.

Every line carries a tag under a key of the gateway's, and has its entry in the audit log, in the same transaction.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from quietfleet.errors import ApprovalMissing, RegistryError
from quietfleet.pipeline.registry_catalogue import Catalogue
from quietfleet.pipeline.registry_tables import (
    CHALLENGER,
    CHAMPION,
    COMPONENT,
    DEFAULT,
    GATEWAY,
    MOVE_COLUMNS,
    PRODUCTION,
    SCHEMA,
    Facts,
    ModelVersion,
    Move,
    Stage,
    VersionEntry,
    require_alias,
    require_words,
)
from quietfleet.storage import Database, ObjectStore, fault_of

__all__ = ["CHALLENGER", "CHAMPION", "PRODUCTION", "Facts", "ModelVersion", "Move", "Registry", "Stage", "VersionEntry"]

Record = Callable[[str, Mapping[str, Any], float], Any]
"""Writes an audit entry: kind, detail, Unix seconds."""

REGISTERED: Final = "model-registered"
MOVED: Final = "model-moved"


class Registry(Catalogue):
    """The gateway's models; used beside each other by the gateway and by commands, one writer at a time."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        *,
        record: Record | None = None,
        key: bytes = b"",
        one_person: bool = False,
    ) -> None:
        """Open the registry, and make it where there is none yet.

        `key` (32 bytes) tags moves; `one_person` lets whoever moves `production` approve it alone.
        """
        database.migrate(COMPONENT, SCHEMA)
        super().__init__(database, objects)
        self._record = record or (lambda _kind, _detail, _at: None)
        self._key = key
        self._one_person = one_person

    # versions

    def register(
        self,
        name: str,
        manifest: bytes,
        artifacts: Mapping[str, bytes] | bytes,
        *,
        at: float,
        run: str = "",
        who: str = GATEWAY,
        why: str = "trained",
    ) -> int:
        """Store a model, all or nothing, and return its version; the same manifest again has the version it had.

        What of that version was damaged or lost meanwhile is whole again. `artifacts` are ONNX bytes by label, one of
        them `default`, or the default's alone; `run` is the id of the run that made it. Raises what the disk says, as
        a `StorageError`.
        """
        require_words(name=name, who=who, why=why)
        given = {DEFAULT: artifacts} if isinstance(artifacts, bytes) else artifacts
        if DEFAULT not in given:
            raise RegistryError(f"a model has an artefact for everybody, called {DEFAULT}")
        with self._database.transaction(), self._whole() as put:
            known = self._version_of(name, _sha256(manifest))
            if known is not None:
                self._repair(self.entry(name, known), [manifest, *given.values()])
                if self.entry(name, known).stage is Stage.PRUNED:
                    self._move(name, known, stage=Stage.ARCHIVED, who=who, at=at, why=why)
                return known
            version, facts = self._newest(name) + 1, Facts.of(manifest, run)
            self._database.execute(
                "INSERT INTO model_version (name, version, manifest, at, dataset, run, code, parent)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (name, version, put(manifest), at, facts.dataset, facts.run, facts.code, facts.parent),
            )
            rows = [(name, version, label, put(data)) for label, data in sorted(given.items())]
            self._database.execute_many("INSERT INTO model_artifact VALUES (?, ?, ?, ?)", rows)
            self._record(REGISTERED, {**self.entry(name, version).recorded(), "who": who, "why": why}, at)
        return version

    # aliases and stages

    def point(
        self, name: str, alias: str, version: int | None, *, who: str, at: float, why: str, approved_by: str = ""
    ) -> None:
        """Let an alias mean this version from now on, or nothing; `production` is moved by `promote` alone."""
        require_alias(alias)
        if alias == PRODUCTION:
            raise RegistryError(f"{PRODUCTION} is moved by promoting a version")
        with self._database.transaction():
            if version is not None:
                self._unpruned(name, version)
            elif alias not in self.aliases(name):
                raise RegistryError(f"{name} has no {alias}")
            self._move(name, version, alias=alias, who=who, approved_by=approved_by, at=at, why=why)

    def promote(
        self, name: str, version: int, stage: Stage, *, who: str, at: float, why: str, approved_by: str = ""
    ) -> None:
        """Move a version to staging or production; what was in production then goes to the archive.

        Production takes somebody else's approval, unless one person may; `ApprovalMissing` otherwise.
        """
        said: dict[str, Any] = {"who": who, "approved_by": approved_by, "at": at, "why": why}
        if stage not in {Stage.STAGING, Stage.PRODUCTION}:
            raise RegistryError(f"a version is promoted to {Stage.STAGING} or {Stage.PRODUCTION}")
        if stage is Stage.PRODUCTION:
            self._require_two(who, approved_by)
        with self._database.transaction():
            if self._unpruned(name, version).stage is stage:
                raise RegistryError(f"{name} version {version} is in {stage} already")
            before = self.aliases(name).get(PRODUCTION)
            if stage is Stage.PRODUCTION and before is not None:
                self._move(name, before, stage=Stage.ARCHIVED, **said)
            self._move(name, version, stage=stage, **said)
            if stage is Stage.PRODUCTION:
                self._move(name, version, alias=PRODUCTION, **said)
            elif before == version:
                self._move(name, None, alias=PRODUCTION, **said)

    def archive(self, name: str, version: int, *, who: str, at: float, why: str) -> None:
        """Take a version out of use; `RegistryError` while champion or production mean it."""
        with self._database.transaction():
            found = self._unpruned(name, version)
            meant = [alias for alias in (CHAMPION, PRODUCTION) if alias in found.aliases]
            if meant:
                raise RegistryError(f"{name} version {version} is {' and '.join(meant)}: bring another there first")
            if found.stage is Stage.ARCHIVED:
                raise RegistryError(f"{name} version {version} is archived already")
            self._move(name, version, stage=Stage.ARCHIVED, who=who, at=at, why=why)

    def withdraw(self, name: str, version: int, *, who: str, at: float, why: str) -> None:
        """Archive a version whatever means it: it was revoked. Production then means nothing, until it is moved."""
        with self._database.transaction():
            found = self.entry(name, version)
            for alias in found.aliases:
                self._move(name, None, alias=alias, who=who, at=at, why=why)
            if found.stage not in {Stage.ARCHIVED, Stage.PRUNED}:
                self._move(name, version, stage=Stage.ARCHIVED, who=who, at=at, why=why)

    def prune(self, name: str, version: int, *, who: str, at: float, why: str) -> None:
        """Give a version's artefacts up for good, which `collect` then removes; its line and history stay.

        `RegistryError` while any alias means it, or it is on its way or in use.
        """
        with self._database.transaction():
            found = self._unpruned(name, version)
            if found.aliases or found.stage in {Stage.STAGING, Stage.PRODUCTION}:
                meant = ", ".join(found.aliases) or f"in {found.stage}"
                raise RegistryError(f"{name} version {version} is {meant}: it stays")
            self._move(name, version, stage=Stage.PRUNED, who=who, at=at, why=why)

    # lines and objects

    def genuine(self, move: Move) -> bool:
        """Whether a line was written by somebody who can unlock the gateway."""
        return bool(self._key) and hmac.compare_digest(move.tagged(self._key), move.tag)

    def collect(self) -> list[str]:
        """Remove what no version refers to, such as a crash leaves behind; return the objects' hashes."""
        with self._database.transaction():  # nobody registers meanwhile
            return self._objects.sweep(self.referred())

    # inside

    @contextmanager
    def _whole(self) -> Iterator[Callable[[bytes], str]]:
        """Yield what stores an object; when the step fails, objects that are new in it go again."""
        made: list[str] = []

        def put(data: bytes) -> str:
            if (name := _sha256(data)) not in self._objects:
                made.append(name)
            return self._objects.put(data)

        try:
            yield put
        except BaseException as error:
            with suppress(OSError):  # then the next collection has them
                for name in made:
                    self._objects.remove(name)
            fault = fault_of(error)
            if fault is None or fault is error:
                raise
            raise fault from error

    def _repair(self, found: VersionEntry, given: Iterable[bytes]) -> None:
        """Put what is the version's own, and nothing else."""
        own = {found.manifest, *found.artifacts.values()}
        for data in given:
            if _sha256(data) in own:
                self._objects.put(data)

    def _unpruned(self, name: str, version: int) -> VersionEntry:
        found = self.entry(name, version)
        if found.stage is Stage.PRUNED:
            raise RegistryError(f"{name} version {version} was pruned: import it again first")
        return found

    def _require_two(self, who: str, approved_by: str) -> None:
        alone = approved_by.strip().casefold() in {"", who.strip().casefold()}
        if alone and not self._one_person:
            raise ApprovalMissing(f"moved by {who}")

    def _move(
        self,
        name: str,
        version: int | None,
        *,
        who: str,
        at: float,
        why: str,
        alias: str = "",
        stage: str = "",
        approved_by: str = "",
    ) -> None:
        require_words(who=who, approved_by=approved_by, why=why)
        if not who.strip() or not why.strip():
            raise RegistryError("every move says who and why")
        number = int(self._database.execute("SELECT coalesce(max(id), 0) + 1 FROM model_move").fetchone()[0])
        move = Move(number, name, version, alias, str(stage), who, approved_by, float(at), why)
        row = (*move.told().values(), move.tagged(self._key) if self._key else b"")
        self._database.execute(
            f"INSERT INTO model_move ({MOVE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - as above
            row,
        )
        run = self.entry(name, version).facts.run if version is not None else ""
        self._record(MOVED, move.told() | ({"run": run} if run else {}), at)

    def _newest(self, name: str) -> int:
        query = "SELECT coalesce(max(version), 0) FROM model_version WHERE name = ?"
        return int(self._database.execute(query, (name,)).fetchone()[0])


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
