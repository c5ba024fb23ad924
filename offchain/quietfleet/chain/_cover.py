"""How the replica lies on disk: as it is, or sealed, with keyed hashes in place of the names that it is looked up by.

The registry is public; which part of it a gateway's disk was found beside is not a thing to tell whoever steals it.
"""

from __future__ import annotations

import hmac
from typing import Final

from quietfleet.crypto import derive
from quietfleet.errors import KeystoreError
from quietfleet.storage import Database, SealedColumn

_MARK: Final = b"the replica is sealed"


class Cover:
    """Nothing is hidden."""

    sealed = False

    def name(self, text: str) -> str:
        """Return what stands for an address or a subject."""
        return text

    def seal(self, plain: bytes, _row: bytes) -> bytes:
        return plain

    def open(self, kept: bytes, _row: bytes) -> bytes:
        return kept

    def seal_text(self, text: str, _row: str) -> str:
        return text

    def open_text(self, kept: str, _row: str) -> str:
        return kept


class SealedCover(Cover):
    """Everything that names anybody is hidden under a worker's secret."""

    sealed = True

    def __init__(self, secret: bytes) -> None:
        self._names = derive(secret, "storage", b"replica names")
        self._column = SealedColumn(derive(secret, "storage", b"replica"), "chain")

    def name(self, text: str) -> str:
        return hmac.digest(self._names, text.encode(), "sha256")[:20].hex()

    def seal(self, plain: bytes, row: bytes) -> bytes:
        return self._column.seal(plain, row=row)

    def open(self, kept: bytes, row: bytes) -> bytes:
        return self._column.open(kept, row=row)

    def seal_text(self, text: str, row: str) -> str:
        return self.seal(text.encode(), row.encode()).hex()

    def open_text(self, kept: str, row: str) -> str:
        return self.open(bytes.fromhex(kept), row.encode()).decode()


def opened_cover(database: Database, secret: bytes | None) -> Cover:
    """Return what the replica in this database lies under; `KeystoreError` when it is sealed and no secret is given."""
    row = database.execute("SELECT mark FROM chain_cover").fetchone()
    if row is None:
        return Cover()
    if secret is None:
        raise KeystoreError("the registry's replica in this database is sealed: its worker's keystore is needed")
    cover = SealedCover(secret)
    cover.open(row[0], b"mark")
    return cover


def new_cover(database: Database, secret: bytes) -> Cover:
    """Have the replica sealed from now on."""
    cover = SealedCover(secret)
    database.execute("INSERT INTO chain_cover VALUES (?)", (cover.seal(_MARK, b"mark"),))
    return cover
