"""The oracle's book in SQLite: offers, seeks, and deals, each of which takes a place at its provider.

Rows are sealed under the storage key and workers appear as keyed digests, so that the file alone tells a thief neither
who offers what nor who was paired. A pairing's row lasts as long as its place, to tell each side when the other leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, TypeVar

import msgspec

from quietfleet.crypto import derive
from quietfleet.dispatch._deal import Deal, DealState, ListedOffer, QueuedSeek, Side
from quietfleet.dispatch._match import Candidate
from quietfleet.storage import Database, SealedColumn

_Record = TypeVar("_Record", ListedOffer, QueuedSeek, Deal)

_CACHED: Final = 4_096  # offers held unsealed: each match reads all that are open, and few change between matches

_STEPS: Final = (
    """
    CREATE TABLE dispatch_offers (
        worker BLOB NOT NULL, offer_id TEXT NOT NULL, capability TEXT NOT NULL, capacity INTEGER NOT NULL,
        open INTEGER NOT NULL, expires REAL NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (worker, offer_id)) STRICT;
    CREATE INDEX dispatch_offers_capability ON dispatch_offers (capability);
    CREATE INDEX dispatch_offers_expires ON dispatch_offers (expires);
    CREATE TABLE dispatch_seeks (
        worker BLOB NOT NULL, seek_id TEXT NOT NULL, capability TEXT NOT NULL, waiting INTEGER NOT NULL,
        since REAL NOT NULL, expires REAL NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (worker, seek_id)) STRICT;
    CREATE INDEX dispatch_seeks_queue ON dispatch_seeks (capability, waiting, since, seek_id);
    CREATE INDEX dispatch_seeks_expires ON dispatch_seeks (waiting, expires);
    CREATE TABLE dispatch_deals (
        deal_id TEXT PRIMARY KEY, seeker BLOB NOT NULL, seek_id TEXT NOT NULL, provider BLOB NOT NULL,
        offer_id TEXT NOT NULL, state TEXT NOT NULL, deadline REAL NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE INDEX dispatch_deals_seeker ON dispatch_deals (seeker, seek_id);
    CREATE INDEX dispatch_deals_provider ON dispatch_deals (provider, offer_id);
    CREATE INDEX dispatch_deals_deadline ON dispatch_deals (deadline);
    """,
)


class DispatchStore:
    """The book behind a `Dispatcher`; `key` is the worker's 32-byte storage key."""

    def __init__(self, database: Database, key: bytes, random: Callable[[int], bytes]) -> None:
        self._database = database
        self._sealed = SealedColumn(derive(key, "dispatch rows"), "dispatch", random)
        self._tag_key = derive(key, "dispatch worker tags")
        self._open_offer = lru_cache(_CACHED)(self._unseal_offer)
        database.migrate("dispatch", _STEPS)

    def transaction(self) -> AbstractContextManager[object]:
        """Make everything inside happen or not happen."""
        return self._database.transaction()

    # offers

    def put_offer(self, listed: ListedOffer) -> None:
        offer = listed.offer
        self._put(
            "offers",
            (self._tag(listed.worker), offer.offer_id, offer.capability.name, offer.capacity, listed.open),
            (offer.expires, self._seal(listed, offer.offer_id)),
        )

    def offer(self, worker: str, offer_id: str) -> ListedOffer | None:
        return next(self._offers("worker = ? AND offer_id = ?", self._tag(worker), offer_id), None)

    def offers_of(self, worker: str) -> list[ListedOffer]:
        return list(self._offers("worker = ?", self._tag(worker)))

    def offers_named(self, capability: str) -> list[ListedOffer]:
        return list(self._offers("capability = ?", capability))

    def offers_due(self, now: float) -> list[ListedOffer]:
        return list(self._offers("expires <= ? ORDER BY expires, offer_id", now))

    def drop_offer(self, worker: str, offer_id: str) -> None:
        self._drop("offers", "worker = ? AND offer_id = ?", self._tag(worker), offer_id)

    def spare_offers(self, capability: str, after: float) -> list[Candidate]:
        """Return the open offers of a capability that have a free place and last beyond `after`."""
        rows = self._database.execute(
            "SELECT offer_id, body, used FROM (SELECT *, (SELECT COUNT(*) FROM dispatch_deals AS deal"
            " WHERE deal.provider = offer.worker AND deal.offer_id = offer.offer_id) AS used"
            " FROM dispatch_offers AS offer WHERE capability = ? AND open AND expires > ?) WHERE used < capacity",
            (capability, after),
        )
        return [Candidate(self._open_offer(body, row), used) for row, body, used in rows.fetchall()]

    # seeks

    def put_seek(self, queued: QueuedSeek) -> None:
        seek = queued.seek
        self._put(
            "seeks",
            (self._tag(queued.worker), seek.seek_id, seek.capability, queued.deal_id is None),
            (queued.since, seek.expires, self._seal(queued, seek.seek_id)),
        )

    def seek(self, worker: str, seek_id: str) -> QueuedSeek | None:
        return next(self._seeks("worker = ? AND seek_id = ?", self._tag(worker), seek_id), None)

    def seeks_of(self, worker: str) -> list[QueuedSeek]:
        return list(self._seeks("worker = ?", self._tag(worker)))

    def queue(self, capability: str) -> Iterator[QueuedSeek]:
        """Yield the seeks that wait for a capability, the longest waiting first."""
        return self._seeks("capability = ? AND waiting = 1 ORDER BY since, seek_id", capability)

    def seeks_due(self, now: float) -> list[QueuedSeek]:
        return list(self._seeks("waiting = 1 AND expires <= ? ORDER BY expires, seek_id", now))

    def drop_seek(self, worker: str, seek_id: str) -> None:
        self._drop("seeks", "worker = ? AND seek_id = ?", self._tag(worker), seek_id)

    # deals

    def put_deal(self, deal: Deal) -> None:
        seeker, provider = (self._tag(deal.workers[side]) for side in (Side.SEEKER, Side.PROVIDER))
        self._put(
            "deals",
            (deal.deal_id, seeker, deal.seek_id, provider, deal.offer_id, deal.state),
            (deal.deadline, self._seal(deal, deal.deal_id)),
        )

    def deal(self, deal_id: str) -> Deal | None:
        return next(self._deals("deal_id = ?", deal_id), None)

    def deal_of_seek(self, worker: str, seek_id: str) -> Deal | None:
        return next(self._deals("seeker = ? AND seek_id = ?", self._tag(worker), seek_id), None)

    def open_deals_of_offer(self, worker: str, offer_id: str) -> list[Deal]:
        """Return the deals on an offer that are not concluded yet."""
        where = "provider = ? AND offer_id = ? AND state IN (?, ?) ORDER BY deal_id"
        return list(self._deals(where, self._tag(worker), offer_id, DealState.PROPOSED, DealState.HALF_ACCEPTED))

    def deals_of(self, worker: str) -> list[Deal]:
        tag = self._tag(worker)
        return list(self._deals("seeker = ? OR provider = ? ORDER BY deal_id", tag, tag))

    def deals_due(self, now: float) -> list[Deal]:
        return list(self._deals("deadline <= ? ORDER BY deadline, deal_id", now))

    def drop_deal(self, deal_id: str) -> None:
        self._drop("deals", "deal_id = ?", deal_id)

    # rows

    def drop_worker(self, worker: str) -> None:
        """Erase a worker's offers and seeks."""
        for table in ("offers", "seeks"):
            self._drop(table, "worker = ?", self._tag(worker))

    def _offers(self, where: str, *values: Any) -> Iterator[ListedOffer]:
        return (self._open_offer(body, row) for row, body in self._rows("offers", "offer_id", where, values))

    def _seeks(self, where: str, *values: Any) -> Iterator[QueuedSeek]:
        return (self._open(QueuedSeek, body, row) for row, body in self._rows("seeks", "seek_id", where, values))

    def _deals(self, where: str, *values: Any) -> Iterator[Deal]:
        return (self._open(Deal, body, row) for row, body in self._rows("deals", "deal_id", where, values))

    def _rows(self, table: str, name: str, where: str, values: tuple[Any, ...]) -> list[tuple[str, bytes]]:
        return self._database.execute(f"SELECT {name}, body FROM dispatch_{table} WHERE {where}", values).fetchall()  # noqa: S608

    def _put(self, table: str, key: tuple[Any, ...], rest: tuple[Any, ...]) -> None:
        values = key + rest
        marks = ", ".join("?" * len(values))
        self._database.execute(f"INSERT OR REPLACE INTO dispatch_{table} VALUES ({marks})", values)  # noqa: S608

    def _drop(self, table: str, where: str, *values: Any) -> None:
        self._database.execute(f"DELETE FROM dispatch_{table} WHERE {where}", values)  # noqa: S608

    def _tag(self, worker: str) -> bytes:
        return blake2b(worker.encode(), digest_size=16, key=self._tag_key).digest()

    def _seal(self, record: ListedOffer | QueuedSeek | Deal, row: str) -> bytes:
        return self._sealed.seal(msgspec.msgpack.encode(record), row=row.encode())

    def _unseal_offer(self, body: bytes, row: str) -> ListedOffer:
        return self._open(ListedOffer, body, row)

    def _open(self, kind: type[_Record], body: bytes, row: str) -> _Record:
        return msgspec.msgpack.decode(self._sealed.open(body, row=row.encode()), type=kind)
