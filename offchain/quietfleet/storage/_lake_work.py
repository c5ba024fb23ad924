"""What is done to files, apart from the database, so that a bucket may take its time: plan, run, then enter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from quietfleet.crypto import derive, open_sealed, seal
from quietfleet.errors import CryptoError, FileRefused, ObjectMissing, ObjectTooLarge
from quietfleet.storage._files import Files
from quietfleet.storage._lake_index import DAY, Part
from quietfleet.storage._parquet import Parquet, Reading

_CACHED: Final = 32 << 20  # bytes of opened files kept in memory


@dataclass(slots=True)
class Group:
    """Files of one day, and rows not yet in one, to become one new file or nothing."""

    day: int
    name: str
    salt: bytes
    parts: tuple[Part, ...]
    rows: list[Reading] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """One step: `groups` are rewritten without what `goes`, `unread` files go whole; `order` says why, or None."""

    revision: int
    groups: list[Group]
    generations: tuple[int, ...] = ()
    unread: tuple[Part, ...] = ()
    goes: Callable[[str, float], bool] | None = None
    order: dict[str, Any] | None = None
    made: list[Part] = field(default_factory=list)
    unchanged: list[Group] = field(default_factory=list)
    erased: list[tuple[str, float]] = field(default_factory=list)


class Vessel:
    """Seals readings into files and opens them, believing the place they lie in nothing."""

    def __init__(self, files: Files, key: bytes, random: Callable[[int], bytes]) -> None:
        self.files = files
        self._key = key
        self._random = random
        self._parquet = Parquet()
        self._opened: dict[str, bytes] = {}

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
        if part.name not in self._opened:
            self._remember(part.name, self.open(part))
        return self._parquet.decode(self._opened[part.name], devices, since, until)

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
        for name in names:
            self._opened.pop(name, None)

    def _remember(self, name: str, plain: bytes) -> None:
        self._opened[name] = plain
        while sum(map(len, self._opened.values())) > _CACHED and len(self._opened) > 1:
            self._opened.pop(next(iter(self._opened)))

    def _rewrite(self, plan: Plan, group: Group) -> None:
        readings = [reading for part in group.parts for reading in self.read(part)] + group.rows
        kept = [one for one in readings if plan.goes is None or not plan.goes(one[0], one[1])]
        if plan.goes is not None and len(kept) == len(readings):
            plan.unchanged.append(group)
            return
        if plan.goes is not None:
            plan.erased += [(device, time) for device, time, _ in readings if plan.goes(device, time)]
        if kept:
            plan.made.append(self.write(group.name, group.day, group.salt, kept))

    def _file_key(self, salt: bytes) -> bytes:
        """A key of its own for each file: without the salt, which is erased with the file, no copy of it opens."""
        return derive(self._key, "storage", b"lake file", salt)
