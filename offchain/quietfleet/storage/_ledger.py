"""A shared store whose owner cannot put an old row back, or take one away, without being found out.

Theory of operation. Rows are sealed, so whoever has the store cannot make one up, but could restore what a row was
yesterday. Every writer therefore keeps a sum of keyed digests: of each row it put, less what that replaced or deleted
(an additive multiset hash modulo 2^256). All writers' sums of a table together are the sum over the rows it has, which
`verified` holds against the rows before anybody goes by them. A writer's sums lie in the store too, sealed, in the
transaction that changes them, beside a count that only grows; whoever has seen a count takes no lower one.

A writer need not know the sums of others: it only ever replaces rows that it wrote or read, which a store with a guard
ensures, or rows of contended tables, which it reads first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from typing import Final

import msgspec

from quietfleet.crypto import derive
from quietfleet.errors import CryptoError, Fenced, StoreReverted
from quietfleet.storage._rows import RowTable, Store
from quietfleet.storage._sealed import SealedColumn

_LEDGER: Final = "replica_ledger"
_MODULUS: Final = 1 << 256
_TRIES: Final = 4  # to learn the names of all tables while others add some

Place = tuple[str, bytes]  # table, id


class _Sums(msgspec.Struct, frozen=True, array_like=True):
    """What one writer did: how many transactions, and the sum of each table it wrote to."""

    count: int = 0
    tables: dict[str, bytes] = {}


class Ledger:
    """Rows of `store`, each of whose transactions is entered under the name `me`; `seen` are counts known before."""

    def __init__(
        self, store: Store, secret: bytes, random: Callable[[int], bytes], me: bytes, seen: Mapping[str, int]
    ) -> None:
        self.store = store
        self.seen = dict(seen)
        self._me = me
        self._digests = derive(secret, "storage", b"ledger digests")
        self._sealed = SealedColumn(derive(secret, "storage", _LEDGER.encode()), _LEDGER, random)
        self._rows = store.table(_LEDGER)
        self._tables: dict[str, RowTable] = {}
        self._contended: set[str] = set()
        self._own = _Sums()
        self._known: dict[Place, int] = {}
        self._levels: list[dict[Place, bytes | None]] = []
        self._snapshot: dict[str, dict[bytes, bytes]] | None = None

    @contextmanager
    def transaction(self) -> Iterator[object]:
        if self._levels:
            with self._level() as changes:
                yield self
            self._levels[-1].update(changes)
            return
        with self.store.transaction():
            with self._level() as changes:
                yield self
            entered = self._enter(changes) if changes else None
        if entered is not None:
            self._own = entered
            self._known |= {place: self._digest(*place, row) for place, row in changes.items()}

    def table(self, name: str, *, contended: bool = False) -> RowTable:
        if contended:
            self._contended.add(name)
        self._tables[name] = self.store.table(name, contended=contended)
        return _LedgerTable(self, name)

    def close(self) -> None:
        self.store.close()

    @contextmanager
    def verified(self) -> Iterator[None]:
        """Have everything inside read rows that are proven to be all there are; raises `StoreReverted`."""
        self._snapshot = self._verify()
        try:
            yield
        finally:
            self._snapshot = None

    # what tables ask

    def write(self, table: str, changes: Mapping[bytes, bytes | None]) -> None:
        with self.transaction():
            self._levels[-1].update({(table, row_id): row for row_id, row in changes.items()})

    def read(self, table: str, prefix: bytes) -> dict[bytes, bytes]:
        """The rows whose ids begin so, as the transaction under way has them."""
        rows: dict[bytes, bytes | None] = dict(self._stored(table, prefix))
        rows |= {i: row for i, row in self._written(table).items() if i.startswith(prefix)}
        return {row_id: row for row_id, row in rows.items() if row is not None}

    def read_ids(self, table: str, prefix: bytes) -> list[bytes]:
        """Their ids alone."""
        if self._snapshot is not None:
            return sorted(self.read(table, prefix))
        written = self._written(table)
        kept = {row_id for row_id in self._tables[table].ids(prefix) if written.get(row_id, b"") is not None}
        return sorted(kept | {i for i, row in written.items() if row is not None and i.startswith(prefix)})

    def read_one(self, table: str, row_id: bytes) -> bytes | None:
        """One row, or None."""
        written = self._written(table)
        if row_id in written:
            return written[row_id]
        if self._snapshot is not None:
            return self._snapshot.get(table, {}).get(row_id)
        row = self._tables[table].get(row_id)
        self._known[table, row_id] = self._digest(table, row_id, row)
        return row

    # inside

    @contextmanager
    def _level(self) -> Iterator[dict[Place, bytes | None]]:
        self._levels.append({})
        try:
            yield self._levels[-1]
        finally:
            self._levels.pop()

    def _written(self, table: str) -> dict[bytes, bytes | None]:
        return {row_id: row for level in self._levels for (name, row_id), row in level.items() if name == table}

    def _stored(self, table: str, prefix: bytes) -> dict[bytes, bytes]:
        if self._snapshot is not None:
            return {i: row for i, row in self._snapshot.get(table, {}).items() if i.startswith(prefix)}
        rows = dict(self._tables[table].all(prefix))
        self._known |= {(table, row_id): self._digest(table, row_id, row) for row_id, row in rows.items()}
        return rows

    def _enter(self, changes: dict[Place, bytes | None]) -> _Sums:
        """Write the changes and what they do to our sums."""
        sums = {table: int.from_bytes(total, "big") for table, total in self._own.tables.items()}
        for (table, row_id), row in changes.items():
            before = self._before(table, row_id)
            sums[table] = (sums.get(table, 0) + self._digest(table, row_id, row) - before) % _MODULUS
        for table in {table: None for table, _ in changes}:
            mine = [(row_id, row) for (name, row_id), row in changes.items() if name == table]
            self._tables[table].delete_many([row_id for row_id, row in mine if row is None])
            self._tables[table].put_many([(row_id, row) for row_id, row in mine if row is not None])
        entered = _Sums(self._own.count + 1, {table: total.to_bytes(32, "big") for table, total in sums.items()})
        self._rows.put(self._me, self._sealed.seal(msgspec.msgpack.encode(entered), row=self._me))
        return entered

    def _before(self, table: str, row_id: bytes) -> int:
        if table in self._contended:
            return self._digest(table, row_id, self._tables[table].get(row_id))
        return self._known.get((table, row_id), 0)

    def _digest(self, table: str, row_id: bytes, row: bytes | None) -> int:
        if row is None:
            return 0
        place = len(table).to_bytes(1, "big") + table.encode() + len(row_id).to_bytes(1, "big") + row_id
        return int.from_bytes(blake2b(place + row, digest_size=32, key=self._digests).digest(), "big")

    def _verify(self) -> dict[str, dict[bytes, bytes]]:
        snapshot, writers = self._look()
        self._check_counts({writer.hex(): sums.count for writer, sums in writers.items()})
        known: dict[Place, int] = {}
        for table in snapshot:
            digests = {(table, row_id): self._digest(table, row_id, row) for row_id, row in snapshot[table].items()}
            entered = sum(int.from_bytes(sums.tables.get(table, b""), "big") for sums in writers.values())
            if (sum(digests.values()) - entered) % _MODULUS:
                raise StoreReverted(f"rows of {table} are not those that were written")
            known |= digests
        self._known, self._own = known, writers.get(self._me, _Sums())
        return snapshot

    def _look(self) -> tuple[dict[str, dict[bytes, bytes]], dict[bytes, _Sums]]:
        """Read every table that anybody wrote to, all as of one moment."""
        names = set(self._tables)
        for _ in range(_TRIES):
            snapshot = self.store.snapshot([_LEDGER, *sorted(names)])
            writers = {writer: self._open(writer, row) for writer, row in snapshot.pop(_LEDGER).items()}
            missing = {table for sums in writers.values() for table in sums.tables} - names
            if not missing:
                return snapshot, writers
            names |= missing
        raise Fenced

    def _open(self, writer: bytes, row: bytes) -> _Sums:
        try:
            return msgspec.msgpack.decode(self._sealed.open(row, row=writer), type=_Sums)
        except (CryptoError, msgspec.MsgspecError) as error:
            raise StoreReverted("a writer's sums do not open") from error

    def _check_counts(self, counts: dict[str, int]) -> None:
        if any(counts.get(writer, 0) < count for writer, count in self.seen.items()):
            raise StoreReverted("it is behind what was seen of it")
        self.seen = counts


class _LedgerTable:
    """One table of a ledger's."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger = ledger
        self._name = name

    def put(self, row_id: bytes, row: bytes) -> None:
        self._ledger.write(self._name, {row_id: row})

    def put_many(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self._ledger.write(self._name, dict(rows))

    def get(self, row_id: bytes) -> bytes | None:
        return self._ledger.read_one(self._name, row_id)

    def delete(self, row_id: bytes) -> None:
        self._ledger.write(self._name, {row_id: None})

    def delete_many(self, row_ids: Iterable[bytes]) -> None:
        self._ledger.write(self._name, dict.fromkeys(row_ids))

    def delete_all(self, *prefixes: bytes) -> None:
        with self._ledger.transaction():
            self.delete_many(row_id for prefix in prefixes for row_id in self._ledger.read(self._name, prefix))

    def ids(self, prefix: bytes = b"") -> list[bytes]:
        return self._ledger.read_ids(self._name, prefix)

    def all(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        return sorted(self._ledger.read(self._name, prefix).items())
