"""Bytes by the hash of their content: models, datasets and reports that must be what they say they are."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Final

from quietfleet.errors import ObjectCorrupt, ObjectMissing, StorageError

_NAME: Final = re.compile(r"[0-9a-f]{64}")


class ObjectStore:
    """A folder of objects named by their SHA-256 (hex); a stored object is complete or absent, never half."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, data: bytes) -> str:
        """Store bytes durably and return their hash; storing the same bytes again is harmless and repairs them."""
        name = hashlib.sha256(data).hexdigest()
        if not self._intact(name):
            self._write(self._path(name), data)
        return name

    def get(self, name: str) -> bytes:
        """Return the bytes with this hash; `ObjectMissing` or, when the disk lied, `ObjectCorrupt`."""
        try:
            data = self._path(name).read_bytes()
        except FileNotFoundError:
            raise ObjectMissing(name) from None
        if hashlib.sha256(data).hexdigest() != name:
            raise ObjectCorrupt(name)
        return data

    def remove(self, name: str) -> None:
        """Forget an object; one that is not there is forgotten already."""
        self._path(name).unlink(missing_ok=True)

    def __contains__(self, name: str) -> bool:
        return self._path(name).is_file()

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):  # a name may come from the network: it must never become a path
            raise StorageError(f"{name!r} is not a SHA-256 in hexadecimal")
        return self.directory / name[:2] / name[2:]

    def _intact(self, name: str) -> bool:
        try:
            self.get(name)
        except (ObjectMissing, ObjectCorrupt):
            return False
        return True

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=self.directory, prefix=".part-", delete=False) as part:
            try:
                part.write(data)
                part.flush()
                os.fsync(part.fileno())
                Path(part.name).replace(path)
            except BaseException:
                Path(part.name).unlink(missing_ok=True)
                raise
        for folder in (path.parent, self.directory):
            _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
