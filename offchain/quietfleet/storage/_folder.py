"""A folder of files named by 32 bytes in hexadecimal: each is complete or absent, never half."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Final

from quietfleet.errors import ObjectMissing, ObjectTooLarge, StorageError

_NAME: Final = re.compile(r"[0-9a-f]{64}")


class Folder:
    """Files by name, for this user alone."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def read(self, name: str, most: int | None = None) -> bytes:
        """Return a file's bytes; ObjectMissing, or ObjectTooLarge if there are more than `most`."""
        try:
            with self._path(name).open("rb") as file:
                data = file.read() if most is None else file.read(most + 1)
        except FileNotFoundError:
            raise ObjectMissing(name) from None
        if most is not None and len(data) > most:
            raise ObjectTooLarge(f"{name} has more than {most} bytes")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file durably, in place of any that is there."""
        path = self._path(name)
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

    def remove(self, name: str) -> None:
        """Forget a file; one that is not there is forgotten already."""
        self._path(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Every file's name, in order."""
        found = (path.parent.name + path.name for path in self.directory.glob("[0-9a-f][0-9a-f]/*"))
        return sorted(name for name in found if _NAME.fullmatch(name))

    def remove_parts(self) -> None:
        """Remove what a crash left half written; nobody may be writing."""
        for path in self.directory.glob(".part-*"):
            path.unlink(missing_ok=True)

    def __contains__(self, name: str) -> bool:
        return self._path(name).is_file()

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):  # a name may come from the network: it must never become a path
            raise StorageError(f"{name!r} is not a SHA-256 or other 32-byte hash in hexadecimal")
        return self.directory / name[:2] / name[2:]


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
