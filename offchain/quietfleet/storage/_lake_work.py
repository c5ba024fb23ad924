"""What is done to files, apart from the database, so that a bucket may take its time: plan, run, then enter."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from quietfleet.crypto import derive, open_sealed, seal
from quietfleet.errors import CryptoError, FileRefused, ObjectMissing, ObjectTooLarge
from quietfleet.storage._files import Files
from quietfleet.storage._holds import Hold
from quietfleet.storage._lake_index import DAY, Part
from quietfleet.storage._parquet import Parquet, Reading

_CACHED: Final = 32 << 20  # bytes of opened files kept in memory


@dataclass(slots=True, eq=False)
class Group:
    """Files of one day, and rows not yet in one, to become one new file or nothing."""

    day: int
    name: str
    salt: bytes
    parts: tuple[Part, ...]
    rows: list[Reading] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Plan:
    """One step: `groups` are rewritten without what is `chosen` and not held, `unread` files go whole.

    `order` says why something is erased, or None. What does not open is left as it is and told in `faults`, unless
    `strict`.
    """

    revision: int
    groups: list[Group]
    generations: tuple[int, ...] = ()
    unread: tuple[Part, ...] = ()
    chosen: Callable[[str, float], bool] | None = None
    holds: tuple[Hold, ...] = ()
    order: dict[str, Any] | None = None
    strict: bool = False
    made: list[Part] = field(default_factory=list)
    replaced: list[Part] = field(default_factory=list)
    unchanged: list[Group] = field(default_factory=list)
    erased: list[tuple[str, float]] = field(default_factory=list)
    held: int = 0
    faults: list[FileRefused] = field(default_factory=list)

    @property
    def gone(self) -> int:
        """How many readings are erased by it."""
        return len(self.erased) + sum(part.rows for part in self.unread)

    def split(self, readings: Sequence[Reading]) -> list[Reading]:
        """Return what stays, and take note of what goes."""
        chosen = [one for one in readings if self.chosen is not None and self.chosen(one[0], one[1])]
        gone = {one[:2] for one in chosen if not any(hold.covers(one[0], one[1]) for hold in self.holds)}
        self.held += len(chosen) - len(gone)
        self.erased += sorted(gone)
        return [one for one in readings if one[:2] not in gone]


class Vessel:
    """Seals readings into files and opens them, believing the place they lie in nothing."""

    def __init__(self, files: Files, key: bytes, random: Callable[[int], bytes]) -> None:
        self.files = files
        self._key = key
        self._random = random
        self._parquet = Parquet()
        self._opened: dict[str, bytes] = {}
        self._lock = threading.Lock()  # a bucket is worked on in a thread

    def name(self, day: int) -> str:
        """A fresh name; it tells the day alone."""
        return f"{datetime.fromtimestamp(day * DAY, UTC).date().isoformat()}/{self._random(16).hex()}.sealed"

    def salt(self) -> bytes:
        return self._random(32)

    def run(self, plan: Plan) -> None:
        """Write what a plan asks for; touches no database."""
        for group in plan.groups:
            self._rewrite(plan, group)

    def write(self, name: str, day: int, salt: bytes, readings: Sequence[Reading]) -> Part:
        sealed = seal(
            self._file_key(salt), self._parquet.encode(readings), associated=name.encode(), random=self._random
        )
        self.files.put(name, sealed)
        times = [time for _, time, _ in readings]
        devices = tuple(sorted({device for device, _, _ in readings}))
        digest = hashlib.sha256(sealed).digest()
        return Part(name, day, salt, digest, len(sealed), len(readings), min(times), max(times), devices)

    def read(
        self, part: Part, devices: Sequence[str] | None = None, since: float | None = None, until: float | None = None
    ) -> list[Reading]:
        """Return a file's readings; `FileRefused` if it is not there or not what was written."""
        with self._lock:
            plain = self._opened.get(part.name)
        if plain is None:
            plain = self.open(part)
            self._remember(part.name, plain)
        return self._parquet.decode(plain, devices, since, until)

    def open(self, part: Part) -> bytes:
        """Return the Parquet file inside; `FileRefused` as above."""
        try:
            sealed = self.files.get(part.name, part.size)
        except ObjectMissing:
            raise FileRefused(f"{part.name} is missing") from None
        except ObjectTooLarge:
            raise FileRefused(f"{part.name} is longer than what was written") from None
        if hashlib.sha256(sealed).digest() != part.hash:
            raise FileRefused(f"{part.name} is not what was written")
        try:
            return open_sealed(self._file_key(part.salt), sealed, associated=part.name.encode())
        except CryptoError as error:
            raise FileRefused(f"{part.name} does not open under this keystore") from error

    def forget(self, names: Sequence[str]) -> None:
        """Drop what memory holds of files."""
        with self._lock:
            for name in names:
                self._opened.pop(name, None)

    def keep(self, names: Container[str]) -> None:
        """Drop what memory holds of all files but these: others may have been erased by another process."""
        with self._lock:
            self._opened = {name: plain for name, plain in self._opened.items() if name in names}

    def _remember(self, name: str, plain: bytes) -> None:
        with self._lock:
            self._opened[name] = plain
            while sum(map(len, self._opened.values())) > _CACHED and len(self._opened) > 1:
                self._opened.pop(next(iter(self._opened)))

    def _rewrite(self, plan: Plan, group: Group) -> None:
        opened = [(part, rows) for part in group.parts if (rows := self._tried(plan, part)) is not None]
        readings = [reading for _, rows in opened for reading in rows] + group.rows
        kept = plan.split(readings)
        if not group.rows and len(kept) == len(readings):
            plan.unchanged.append(group)
            return
        plan.replaced += [part for part, _ in opened]
        if kept:
            plan.made.append(self.write(group.name, group.day, group.salt, kept))

    def _tried(self, plan: Plan, part: Part) -> list[Reading] | None:
        try:
            return self.read(part)
        except FileRefused as error:
            if plan.strict:
                raise
            plan.faults.append(error)
            return None

    def _file_key(self, salt: bytes) -> bytes:
        """A key of its own for each file: without the salt, which is erased with the file, no copy of it opens."""
        return derive(self._key, "storage", b"lake file", salt)
