"""The workers of a registry, read through Ape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from quietfleet.chain.types import Flag, Kind
from quietfleet.console._time import EVER
from quietfleet.errors import UnknownWorkerName
from quietfleet.owners import AddressBook, Row


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
            tags=self._book.tags_of(id_),
        )
