"""The oracle's book on disk: a sealed row for each offer, seek and deal, and for what must not come back.

Row ids are keyed digests and rows are sealed under the storage key, so that the table alone tells a thief neither who
offers what nor who was paired. The matching never reads it: it is written through, and read whole at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from hashlib import blake2b
from typing import Final, TypeVar

import msgspec

from quietfleet.crypto import derive
from quietfleet.dispatch._deal import Deal, ListedOffer, OfferKey, QueuedSeek, SeekKey
from quietfleet.session import Vault
from quietfleet.storage import Database, Rows

_OFFER, _SEEK, _DEAL, _GRAVE, _MARK = b"o", b"s", b"d", b"g", b"m"
TAG_SIZE: Final = 16

_OLD_TABLES: Final = (
    "DROP TABLE IF EXISTS dispatch_offers; DROP TABLE IF EXISTS dispatch_seeks; DROP TABLE IF EXISTS dispatch_deals;"
)


class Grave(msgspec.Struct, frozen=True):
    """Until when an id must not be taken again; the row's own id is all that is left of it."""

    until: float


class Mark(msgspec.Struct, frozen=True):
    """A worker that has lost its turn, and until when."""

    worker: str
    until: float


_Record = TypeVar("_Record", ListedOffer, QueuedSeek, Deal, Grave, Mark)


def drop_old_tables(database: Database) -> None:
    """Erase what an earlier release kept in tables of its own; its deals are forgotten, and sought anew."""
    database.migrate("dispatch", (_OLD_TABLES, _OLD_TABLES))


class DispatchStore:
    """The table behind a book; `key` is the worker's 32-byte storage key."""

    def __init__(self, rows: Rows, key: bytes, random: Callable[[int], bytes]) -> None:
        self._rows = rows
        self._vault = Vault(rows, "dispatch_book", derive(key, "dispatch rows"), random)
        self._tag_key = derive(key, "dispatch worker tags")

    def transaction(self) -> AbstractContextManager[object]:
        """Make everything inside happen or not happen."""
        return self._rows.transaction()

    def put_offer(self, listed: ListedOffer) -> None:
        self._vault.put(_OFFER + self._tag(*listed.key), listed)

    def drop_offer(self, key: OfferKey) -> None:
        self._vault.delete(_OFFER + self._tag(*key))

    def put_seek(self, queued: QueuedSeek) -> None:
        self._vault.put(_SEEK + self._tag(*queued.id), queued)

    def drop_seek(self, key: SeekKey) -> None:
        self._vault.delete(_SEEK + self._tag(*key))

    def put_deal(self, deal: Deal) -> None:
        self._vault.put(_DEAL + bytes.fromhex(deal.deal_id), deal)

    def drop_deal(self, deal_id: str) -> None:
        self._vault.delete(_DEAL + bytes.fromhex(deal_id))

    def grave(self, worker: str, name: str) -> bytes:
        """The place of an offer's or a seek's id among those that must not come back."""
        return self.graveyard(worker) + self._tag(worker, name)

    def graveyard(self, worker: str) -> bytes:
        """What all of a worker's graves begin with."""
        return self._tag(worker)

    def put_grave(self, grave: bytes, until: float) -> None:
        self._vault.put(_GRAVE + grave, Grave(until))

    def drop_grave(self, grave: bytes) -> None:
        self._vault.delete(_GRAVE + grave)

    def put_mark(self, worker: str, until: float) -> None:
        self._vault.put(_MARK + self._tag(worker), Mark(worker, until))

    def drop_mark(self, worker: str) -> None:
        self._vault.delete(_MARK + self._tag(worker))

    def offers(self) -> Iterator[ListedOffer]:
        return self._all(_OFFER, ListedOffer)

    def seeks(self) -> Iterator[QueuedSeek]:
        return self._all(_SEEK, QueuedSeek)

    def deals(self) -> Iterator[Deal]:
        return self._all(_DEAL, Deal)

    def graves(self) -> Iterator[tuple[bytes, float]]:
        return ((row_id[1:], row.until) for row_id, row in self._vault.all(Grave, _GRAVE))

    def marks(self) -> Iterator[Mark]:
        return self._all(_MARK, Mark)

    def _all(self, prefix: bytes, kind: type[_Record]) -> Iterator[_Record]:
        return (row for _, row in self._vault.all(kind, prefix))

    def _tag(self, *names: str) -> bytes:
        text = "\0".join(names).encode()
        return blake2b(text, digest_size=TAG_SIZE, key=self._tag_key).digest()
