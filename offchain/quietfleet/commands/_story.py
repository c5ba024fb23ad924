"""What a gateway's database and trail say of a run, from what began it to what became of its release."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from quietfleet.errors import PipelineError
from quietfleet.storage import AuditEntry, AuditLog, Database

if TYPE_CHECKING:
    from quietfleet.pipeline.registry_catalogue import Catalogue
    from quietfleet.pipeline.registry_tables import VersionEntry
    from quietfleet.workers._runs import Run, Runs

_CHAIN: Final = "release-"
_LONGEST: Final = 60  # characters of a word


@dataclass(frozen=True, slots=True)
class Story:
    """One run; `trail` are its own entries, `releases` those on chain by sequence.

    `heard` are how many outcomes there were by sequence, `reported` how many reports of how the model does since, and
    `heads` how often processors fitted a head on it, and let go of one.
    """

    run: Run
    trail: list[AuditEntry]
    version: VersionEntry | None
    moves: list[dict[str, Any]]
    releases: dict[int, list[AuditEntry]]
    heard: dict[int, int]
    reported: dict[int, int]
    heads: dict[int, tuple[int, int]]

    def told(self) -> dict[str, Any]:
        """As plain values, for programs."""
        return {
            "run": self.run.told(),
            "trail": [plain(entry) for entry in self.trail],
            "version": self.version.told() if self.version else None,
            "moves": self.moves,
            "releases": [
                {
                    "sequence": number,
                    "outcomes": self.heard.get(number, 0),
                    "reports": self.reported.get(number, 0),
                    "heads": self.heads.get(number, (0, 0)),
                    "trail": [plain(one) for one in entries],
                }
                for number, entries in self.releases.items()
            ],
        }


class Archive:
    """Everything a story is made of; only reads."""

    def __init__(self, database: Database, runs: Runs, catalogue: Catalogue, channel: str) -> None:
        self._database = database
        self._catalogue = catalogue
        self._channel = channel
        self._runs = {one.id: one for one in runs.all()}
        self._entries = list(AuditLog(database, create=False).entries())

    def stories(self, subject: str) -> list[Story]:
        """Return the runs that a word has to do with; `PipelineError` when there are none."""
        found = [self._story(self._runs[name]) for name in self._find(subject.removeprefix("0x").lower())]
        if not found:
            raise PipelineError(
                f"nothing here is called {subject}: give a run's id, a version as 3 or {self._channel}:3, a manifest's "
                "hash, release:2 or the pseudonym of a device"
            )
        return found

    def _find(self, subject: str) -> list[str]:
        """Return run ids, oldest first; what has no run of its own is told under the run that made its model."""
        kind, _, number = subject.rpartition(":")
        if subject in self._runs:
            return [subject]
        if number.isdecimal() and kind in {"", self._channel.lower()}:
            return self._runs_of(int(number))
        if number.isdecimal() and kind == "release":
            manifests = {str(entry.detail.get("manifest", "")) for entry in self._steps(int(number))}
            return [run for manifest in sorted(manifests) for run in self._of_manifest(manifest)]
        return self._of_manifest(subject) or self._of_device(subject)

    def _of_manifest(self, manifest: str) -> list[str]:
        versions = [one.version for one in self._versions() if one.manifest == manifest]
        known = [entry.detail.get("version") for entry in self._entries if entry.detail.get("manifest") == manifest]
        ran = [run.id for run in self._runs.values() if run.outcome.get("manifest") == manifest]
        numbers = dict.fromkeys([*versions, *(one for one in known if isinstance(one, int))])
        return list(dict.fromkeys([*ran, *(run for number in numbers for run in self._runs_of(number))]))

    def _runs_of(self, version: int) -> list[str]:
        registered = {one.facts.run for one in self._versions() if one.version == version}
        return [run.id for run in self._runs.values() if run.outcome.get("version") == version or run.id in registered]

    def _of_device(self, device: str) -> list[str]:
        """Runs that trained on a device: the trail has the pseudonyms of each."""
        learned = [one.detail for one in self._entries if one.kind == "training" and device in one.detail["newest"]]
        return [run for run in self._runs if any(one.get("run") == run for one in learned)]

    def _versions(self) -> list[VersionEntry]:
        return self._catalogue.versions(self._channel)

    def _story(self, run: Run) -> Story:
        number, manifest = run.outcome.get("version"), run.outcome.get("manifest")
        version = next((one for one in self._versions() if one.version == number), None)
        moves = [one.told() for one in self._catalogue.history(self._channel) if version and one.version == number]
        trail = [entry for entry in self._entries if entry.detail.get("run") == run.id]
        releases = {one: self._steps(one) for one in self._sequences(manifest)} if manifest else {}
        if manifest and not releases:
            early = [one for one in self._entries if _is_step(one) and one.detail.get("manifest") == manifest]
            releases = {0: early} if early else {}
        heard = {one: self._outcomes(one) for one in releases}
        reported = Counter(one.detail["release"] for one in self._entries if one.kind == "monitor-reported")
        since = {one: reported[one] for one in releases}
        return Story(run, trail, version, moves, releases, heard, since, {one: self._heads(one) for one in releases})

    def _heads(self, sequence: int) -> tuple[int, int]:
        """How many heads of processors were said to be in use, and out of it again."""
        said = [one.detail for one in self._entries if one.kind == "head-reported"]
        gone = [bool(one["why"]) for one in said if one["release"] == sequence]
        return gone.count(False), gone.count(True)

    def _sequences(self, manifest: str) -> list[int]:
        """The releases of a manifest that this gateway met, with those in which it was brought back."""
        found = [one.detail for one in self._entries if _is_step(one) and one.detail.get("manifest") == manifest]
        return sorted({one["sequence"] for one in found if isinstance(one.get("sequence"), int)})

    def _steps(self, sequence: int) -> list[AuditEntry]:
        """What the trail has of a release: its steps, with the proposal that came before it had its number."""
        steps = [one for one in self._entries if _is_step(one) and one.detail.get("sequence") == sequence]
        manifests = {one.detail["manifest"] for one in steps if "manifest" in one.detail}
        proposed = [
            one
            for one in self._entries
            if one.kind == "release-proposed" and one.detail.get("manifest") in manifests and one not in steps
        ]
        return sorted([*steps, *proposed], key=lambda entry: entry.sequence)

    def _outcomes(self, sequence: int) -> int:
        """How many processors said how it went; who, is sealed."""
        pattern = f"outcome:{sequence:08d}:*"
        try:
            row = self._database.execute("SELECT count(*) FROM state WHERE name GLOB ?", (pattern,)).fetchone()
        except sqlite3.OperationalError:
            return 0
        return int(row[0])


def _is_step(entry: AuditEntry) -> bool:
    return entry.kind.startswith(_CHAIN) or entry.kind == "anchored"


def plain(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry as plain values."""
    return {"number": entry.sequence, "at": entry.at, "kind": entry.kind, "detail": entry.detail}


def facts(detail: dict[str, Any], *without: str) -> str:
    """Return an entry's facts on a line; long hashes cut."""
    kept = {name: value for name, value in detail.items() if name not in {"run", *without} and value is not None}
    return ", ".join(f"{name} {_short(value)}" for name, value in kept.items())


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST or " " in text else f"{text[:16]}…"
