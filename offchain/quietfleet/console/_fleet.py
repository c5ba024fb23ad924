"""The verbs of device owners."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from quietfleet.chain.consent import Consent
from quietfleet.chain.types import Flag, Kind
from quietfleet.console._book import AddressBook
from quietfleet.console._signers import Signers
from quietfleet.console._time import newest_time
from quietfleet.console._view import View, sheet
from quietfleet.errors import UnknownWorkerName

_HEAD = 2**63  # a block number no chain reaches: up to the newest block
_COLUMNS = ("name", "kind", "id", "owner", "active", "suspended", "since")


@dataclass(frozen=True, slots=True)
class Row:
    """One worker as its owner sees it; `since` in Unix seconds."""

    id: str
    name: str
    kind: str
    owner: str
    active: bool
    suspended: bool
    pending: bool
    retired: bool
    since: int


class Fleet:
    """The verbs of device owners; each worker is signed for by the account that owns it."""

    def __init__(self, service: Any, signers: Signers, book: AddressBook, first_block: int) -> None:
        self._service = service
        self._signers = signers
        self._book = book
        self._first_block = first_block

    def rows(self) -> list[Row]:
        """List every worker that was ever enrolled, oldest first."""
        return [self._row(log.id) for log in self._service.Enrolled.range(self._first_block, _HEAD)]

    def status(self) -> View:
        """Show every worker of the registry; names are local."""
        return _table(self.rows())

    def disable(self, *workers: str) -> View:
        """Switch workers off, by name or id: every counterpart severs its sessions with them."""
        return self._switch(workers, active=False)

    def enable(self, *workers: str) -> View:
        """Switch workers on again, by name or id."""
        return self._switch(workers, active=True)

    def enrol(self, consent: Consent, name: str = "") -> View:
        """Enrol a device with the consent it signed, for the exact fee; remember it under `name`."""
        service = self._service
        consent.check(service.provider.chain_id, service.address, newest_time(service))
        owner = self._signers.for_any("enrolling this device", consent.owner)
        x, y = consent.public_key[:32], consent.public_key[32:]
        terms = (x, y, int(consent.kind), consent.deadline, consent.signature)
        service.enrol(*terms, sender=owner, value=service.fee())
        if name:
            self._book.add(name, consent.id)
        return _table([self._row(consent.id)])

    def _switch(self, workers: Sequence[str], *, active: bool) -> View:
        ids = [self._enrolled(worker) for worker in workers]
        for owner, own in self._to_switch(ids, active=active):
            self._service.setActive(own[0] if len(own) == 1 else own, active, sender=owner)
        return _table([self._row(id_) for id_ in ids])

    def _to_switch(self, ids: Iterable[str], *, active: bool) -> list[tuple[Any, list[str]]]:
        """Group what is not so already by the account that signs for it, before anything is sent."""
        by_owner: dict[str, list[str]] = {}
        for row in map(self._row, dict.fromkeys(ids)):
            if row.active != active:
                by_owner.setdefault(row.owner, []).append(row.id)
        return [(self._signers.for_any(f"switching {', '.join(own)}", owner), own) for owner, own in by_owner.items()]

    def _enrolled(self, worker: str) -> str:
        id_ = self._book.id_of(worker)
        if not self._service.worker(id_).kind:
            raise UnknownWorkerName(worker)
        return id_

    def _row(self, id_: str) -> Row:
        worker = self._service.worker(id_)
        flags = Flag(worker.flags)
        return Row(
            id=id_,
            name=self._book.name_of(id_),
            kind=Kind(worker.kind).name.lower(),
            owner=worker.owner,
            active=Flag.ACTIVE in flags,
            suspended=Flag.SUSPENDED in flags,
            pending=Flag.PENDING in flags,
            retired=Flag.RETIRED in flags,
            since=worker.since,
        )


def _table(rows: Iterable[Row]) -> View:
    return sheet(_COLUMNS, (_cells(row) for row in rows))


def _cells(row: Row) -> tuple[str, ...]:
    activity = "retired" if row.retired else "pending" if row.pending else "yes" if row.active else "no"
    return row.name, row.kind, row.id, row.owner, activity, "yes" if row.suspended else "no", _date(row.since)


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
