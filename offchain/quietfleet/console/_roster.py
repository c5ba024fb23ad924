"""The workers of a registry, as people see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from quietfleet.chain.types import Flag, Kind
from quietfleet.console._book import AddressBook
from quietfleet.console._time import EVER
from quietfleet.console._view import View, sheet
from quietfleet.errors import UnknownWorkerName

_COLUMNS = ("name", "kind", "id", "owner", "active", "suspended", "key", "since")


@dataclass(frozen=True, slots=True)
class Row:
    """One worker as its owner sees it; `since` in Unix seconds, `epoch` counts its later keys."""

    id: str
    name: str
    kind: str
    owner: str
    active: bool
    suspended: bool
    pending: bool
    retired: bool
    since: int
    epoch: int


class Roster:
    """Reads workers from the registry and names them from the address book."""

    def __init__(self, service: Any, book: AddressBook, first_block: int) -> None:
        self._service = service
        self._book = book
        self._first_block = first_block

    def __iter__(self) -> Iterator[Row]:
        """Go through every worker that was ever enrolled, oldest first."""
        events = [self._service.Enrolled, self._service.EnrolledItself]
        logs = [log for event in events for log in event.range(self._first_block, EVER)]
        return (self.row(log.id) for log in sorted(logs, key=lambda log: (log.block_number, log.log_index)))

    def enrolled(self, worker: str) -> str:
        """Return the id of an enrolled worker, by name or id; UnknownWorkerName if there is none."""
        id_ = self._book.id_of(worker)
        if not self._service.worker(id_).kind:
            raise UnknownWorkerName(worker)
        return id_

    def rows(self, workers: Iterable[str]) -> list[Row]:
        """Read enrolled workers, each once."""
        return [self.row(id_) for id_ in dict.fromkeys(map(self.enrolled, workers))]

    def row(self, id_: str) -> Row:
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
            epoch=worker.epoch,
        )


def table(rows: Iterable[Row]) -> View:
    listed = list(rows)
    return sheet(_COLUMNS, map(_cells, listed), [asdict(row) for row in listed])


def _cells(row: Row) -> tuple[str, ...]:
    activity = "retired" if row.retired else "pending" if row.pending else "yes" if row.active else "no"
    suspended = "yes" if row.suspended else "no"
    since = datetime.fromtimestamp(row.since, UTC).strftime("%Y-%m-%d %H:%M")
    return row.name, row.kind, row.id, row.owner, activity, suspended, str(row.epoch), since
