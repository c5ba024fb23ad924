"""Bytes by the hash of their content: models, datasets and reports that must be what they say they are."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from pathlib import Path

from quietfleet.errors import ObjectCorrupt, ObjectMissing
from quietfleet.storage._folder import Folder


class ObjectStore:
    """A folder of objects named by their SHA-256 (hex); a stored object is complete or absent, never half."""

    def __init__(self, directory: Path | str) -> None:
        self._folder = Folder(directory)
        self.directory = self._folder.directory

    def put(self, data: bytes) -> str:
        """Store bytes durably and return their hash; storing the same bytes again is harmless and repairs them."""
        name = hashlib.sha256(data).hexdigest()
        if not self._intact(name):
            self._folder.write(name, data)
        return name

    def get(self, name: str) -> bytes:
        """Return the bytes with this hash; `ObjectMissing` or, when the disk lied, `ObjectCorrupt`."""
        data = self._folder.read(name)
        if hashlib.sha256(data).hexdigest() != name:
            raise ObjectCorrupt(name)
        return data

    def remove(self, name: str) -> None:
        """Forget an object; one that is not there is forgotten already."""
        self._folder.remove(name)

    def names(self) -> list[str]:
        """Every object's hash, in order."""
        return self._folder.names()

    def sweep(self, keep: Container[str]) -> list[str]:
        """Remove every object but these, and what a crash left half written; nobody may be putting meanwhile."""
        gone = [name for name in self.names() if name not in keep]
        for name in gone:
            self.remove(name)
        self._folder.remove_parts()
        return gone

    def __contains__(self, name: str) -> bool:
        return name in self._folder

    def _intact(self, name: str) -> bool:
        try:
            self.get(name)
        except (ObjectMissing, ObjectCorrupt):
            return False
        return True
