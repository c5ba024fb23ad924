"""Sealed rows: what a session keeps on disk is encrypted under a key derived from the worker's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from quietfleet.crypto import derive, open_sealed, seal
from quietfleet.errors import CryptoError, RowDamaged
from quietfleet.storage import Rows

Random = Callable[[int], bytes]
Mine = Callable[[str], bool]  # whether a peer is this replica's
Row = TypeVar("Row", bound=msgspec.Struct)


def everyone(_peer: str) -> bool:
    """Tell what is true of a worker without replicas: whoever the peer, it is ours."""
    return True


class Vault:
    """A table of sealed msgpack structs by binary id.

    In a database, overwritten and deleted rows are physically zeroed by SQLite's `secure_delete`. Ids stand there as
    they are: none may say whom it concerns.
    """

    def __init__(self, rows: Rows, table: str, secret: bytes, random: Random, *, contended: bool = False) -> None:
        self._rows = rows.table(table, contended=contended)
        self._key = derive(secret, "storage", table.encode())
        self._random = random

    def put(self, row_id: bytes, row: msgspec.Struct) -> None:
        """Store or replace a row."""
        self._rows.put(row_id, self.seal(row_id, row))

    def put_many(self, rows: Iterable[tuple[bytes, msgspec.Struct]]) -> None:
        """Store or replace rows by id, all of them or none."""
        self._rows.put_many((row_id, self.seal(row_id, row)) for row_id, row in rows)

    def get(self, row_id: bytes, kind: type[Row]) -> Row | None:
        """Return one row, or None."""
        sealed = self._rows.get(row_id)
        return None if sealed is None else self.open(row_id, sealed, kind)

    def delete(self, row_id: bytes) -> None:
        """Erase a row."""
        self._rows.delete(row_id)

    def delete_many(self, row_ids: Iterable[bytes]) -> None:
        """Erase rows, all of them or none."""
        self._rows.delete_many(row_ids)

    def delete_all(self, *prefixes: bytes) -> None:
        """Erase the rows whose ids begin with one of these, all of them or none."""
        self._rows.delete_all(*prefixes)

    def ids(self, prefix: bytes) -> list[bytes]:
        """Return the ids that begin so, in order, without opening a row."""
        return self._rows.ids(prefix)

    def all(self, kind: type[Row], prefix: bytes = b"") -> Iterator[tuple[bytes, Row]]:
        """Yield every row whose id begins so."""
        for row_id, sealed in self._rows.all(prefix):
            yield row_id, self.open(row_id, sealed, kind)

    def seal(self, row_id: bytes, row: msgspec.Struct) -> bytes:
        """Encrypt a row for its place."""
        return seal(self._key, msgspec.msgpack.encode(row), associated=row_id, random=self._random)

    def open(self, row_id: bytes, sealed: bytes, kind: type[Row]) -> Row:
        """Decrypt a row read from its place."""
        try:
            return msgspec.msgpack.decode(open_sealed(self._key, sealed, associated=row_id), type=kind)
        except (CryptoError, msgspec.MsgspecError) as error:
            raise RowDamaged("a sealed row") from error
