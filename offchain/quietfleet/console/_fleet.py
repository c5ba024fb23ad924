"""The verbs of device owners: who belongs to the fleet, and who is switched on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quietfleet.chain.consent import Consent
from quietfleet.chain.new_key import KeyProof
from quietfleet.chain.types import Right
from quietfleet.console import _signed as signed
from quietfleet.console._outbox import Outbox
from quietfleet.console._ownership import Ownership
from quietfleet.console._roster import Roster
from quietfleet.console._time import newest_time
from quietfleet.errors import ConsentInvalid, NothingNamed
from quietfleet.owners import MAX_BATCH, AddressBook, Row, View, batches, by_owner, table


class Fleet(Ownership):
    """The verbs of device owners; each worker is signed for by its owner, or by an operator with the right."""

    called = "fleet"

    def __init__(self, service: Any, outbox: Outbox, book: AddressBook, roster: Roster) -> None:
        super().__init__(service, outbox, roster)
        self._book = book

    def rows(self) -> list[Row]:
        """List every worker that was ever enrolled, oldest first."""
        return list(self._roster)

    def status(self) -> View:
        """Show every worker of the registry; names are local."""
        return table(self._roster)

    def disable(self, *workers: str, tag: str = "") -> View:
        """Switch workers off, by name or id, and all that carry a tag: every counterpart severs its sessions."""
        return self._switch(workers, tag, active=False)

    def enable(self, *workers: str, tag: str = "") -> View:
        """Switch workers on again, by name or id, and all that carry a tag."""
        return self._switch(workers, tag, active=True)

    def enrol(self, *consents: Consent | str | Path, name: str = "") -> View:
        """Enrol devices with the consents they signed, given as such, as files or as folders of files.

        The exact fee is paid for each; a single one is remembered under `name`.
        """
        read = signed.consents(consents)
        if name and len(read) != 1:
            raise ConsentInvalid(f"one name, {name}, but {len(read)} consents: name them later")
        now = newest_time(self._service)
        for consent in read:
            consent.check(self._service.provider.chain_id, self._service.address, now)
        fee = self._service.fee()
        for owner, own in by_owner(read, lambda consent: consent.owner).items():
            self._send_all("enrolling", "enrol", [one.arguments for one in own], by=[owner], fee=fee)
        if name:
            self._book.add(name, read[0].id)
        return table(self._roster.row(consent.id) for consent in read if self._is_enrolled(consent.id))

    def name(self, worker: str, name: str) -> View:
        """Remember a worker under another name, in the local address book alone."""
        id_ = self._roster.enrolled(worker)
        self._book.add(name, id_)
        return table([self._roster.row(id_)])

    def tag(self, worker: str, *tags: str) -> View:
        """Put tags on a worker, in the local address book alone: `disable(tag="garden")` is for all that carry it."""
        if not tags:
            raise NothingNamed(f"which tags for {worker}?")
        id_ = self._roster.enrolled(worker)
        self._book.tag(id_, tags)
        return table([self._roster.row(id_)])

    def untag(self, worker: str, *tags: str) -> View:
        """Take tags off a worker, all of its tags if none is named; in the local address book alone."""
        id_ = self._roster.enrolled(worker)
        self._book.untag(id_, tags or self._book.tags_of(id_))
        return table([self._roster.row(id_)])

    def rotate_key(self, *proofs: KeyProof | str | Path) -> View:
        """Replace workers' messaging keys with those they prepared, given as proofs or as files."""
        read = signed.proofs(proofs)
        now = newest_time(self._service)
        for proof in read:
            row = self._roster.row(self._roster.enrolled(proof.worker))
            domain = (self._service.provider.chain_id, self._service.address)
            proof.check(*domain, now, owner=row.owner, epoch=row.epoch + 1)
        for owner, own in by_owner(read, lambda proof: proof.owner).items():
            by = self._entitled(owner, Right.REPLACE_KEYS)
            self._send_all("replacing keys", "rotateKey", [proof.arguments for proof in own], by=by)
        return table(self._roster.rows(proof.worker for proof in read))

    def _switch(self, workers: Sequence[str], tag: str, *, active: bool) -> View:
        chosen = self._book.chosen(workers, tag)
        rows = [row for row in self._roster.rows(chosen) if row.active != active]
        right = Right.SWITCH_ON if active else Right.SWITCH_OFF
        groups = [(self._entitled(owner, right), own) for owner, own in by_owner(rows, lambda row: row.owner).items()]
        self._outbox.require(f"switching {', '.join([*workers, tag])}".rstrip(", "), *(by for by, _ in groups))
        for by, own in groups:
            self._send_all("switching", "setActive", [row.id for row in own], active, by=by)
        return table(self._roster.rows(chosen))

    def _send_all(
        self, purpose: str, function: str, items: Sequence[Any], *rest: Any, by: Sequence[str], fee: int = 0
    ) -> None:
        """Send one item alone, several in batches, each paid for with its fees."""
        for batch in batches(items, MAX_BATCH):
            name, what = (function, batch[0]) if len(batch) == 1 else (f"{function}Batch", list(batch))
            self._outbox.send(purpose, self._service, name, what, *rest, by=by, value=fee * len(batch))

    def _is_enrolled(self, id_: str) -> bool:
        return bool(self._service.worker(id_).kind)
