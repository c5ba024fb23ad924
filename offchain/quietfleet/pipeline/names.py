"""What devices of a file are called in all that a run writes: keyed pseudonyms, whose key stays in the run's folder.

A gateway's readings carry pseudonyms already. A file's names may be anything, a customer's among them, and pages,
reports and models are handed on; without the key nobody tells a device of one run from one of another.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Self

from quietfleet.errors import ProjectError
from quietfleet.pipeline.ingest import Reading
from quietfleet.storage import fault_of

FILE: Final = "names.key"
"""In the run's folder; whoever has it can tell which device is which, so it is its user's alone."""
_NEW: Final = f".{FILE}.new"
_SIZE: Final = 32
_LENGTH: Final = 16  # bytes of a pseudonym


class Names:
    """Pseudonyms of one run, under a key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """Read a run's key; None where its devices go by their own names, `ProjectError` where it is damaged."""
        try:
            key = (folder / FILE).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ProjectError(f"{folder / FILE} cannot be read: {error.strerror}") from error
        if len(key) != _SIZE:
            raise ProjectError(f"{folder / FILE} is damaged: bring it back from a copy, or name another folder")
        return cls(key)

    @classmethod
    def kept(cls, folder: Path, random: Callable[[int], bytes]) -> Self:
        """Read a run's key, or draw it; a folder that holds a run without one is none to begin with."""
        found = cls.of(folder)
        if found is not None:
            return found
        if holds_more(folder):
            raise ProjectError(f"{folder} holds no run under pseudonyms: name another folder, or add --own-names")
        key = random(_SIZE)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _NEW).unlink(missing_ok=True)
            with os.fdopen(os.open(folder / _NEW, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
            (folder / _NEW).replace(folder / FILE)
        except OSError as error:
            raise fault_of(error) or error from error
        return cls(key)

    def pseudonym(self, device: str) -> str:
        """Return what a device is called, 32 hexadecimal digits."""
        return hmac.digest(self._key, device.encode(), "sha256")[:_LENGTH].hex()

    def veil(self, readings: Iterable[Reading]) -> list[Reading]:
        """Return readings under pseudonyms."""
        known: dict[str, str] = {}
        return [
            (known.get(device) or known.setdefault(device, self.pseudonym(device)), at, values)
            for device, at, values in readings
        ]


def holds_more(folder: Path) -> bool:
    """Whether a folder holds anything but a key of names."""
    return folder.exists() and any(one.name not in {FILE, _NEW} for one in folder.iterdir())
