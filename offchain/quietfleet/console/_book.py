"""The address book: names for workers that only this machine knows."""

from __future__ import annotations

from pathlib import Path

import msgspec

from quietfleet.errors import BookError, UnknownWorkerName

_ID_LENGTH = 42


class AddressBook:
    """Local names of workers, `{"workers": {"porch": "0x…"}}`; they never reach the chain."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids = self._read()

    def _read(self) -> dict[str, str]:
        if not self._path.exists():
            return {}
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, dict[str, str]]).get("workers", {})
        except msgspec.MsgspecError as error:
            raise BookError(f"{self._path}: {error}") from error

    def id_of(self, name: str) -> str:
        """Return the id behind a name, or the id itself; UnknownWorkerName when it is neither."""
        found = self._ids.get(name, name)
        if not (found.startswith("0x") and len(found) == _ID_LENGTH):
            raise UnknownWorkerName(name)
        return found

    def name_of(self, id_: str) -> str:
        return next((name for name, known in self._ids.items() if known.lower() == id_.lower()), "")

    def add(self, name: str, id_: str) -> None:
        """Name a worker and write the book."""
        self._ids[name] = id_
        self._path.write_bytes(msgspec.json.format(msgspec.json.encode({"workers": self._ids}), indent=2) + b"\n")
