"""The verbs with which a device changes hands, and with which an owner lets others act."""

from __future__ import annotations

from typing import Any

from quietfleet.chain.types import Right
from quietfleet.console._outbox import Outbox
from quietfleet.console._roster import Roster
from quietfleet.console._time import newest_time
from quietfleet.console._verbs import Verbs
from quietfleet.errors import NoSigner
from quietfleet.owners import View, listing, table

_DAY = 86_400


class Ownership(Verbs):
    """What only owners decide, beyond switching."""

    def __init__(self, service: Any, outbox: Outbox, roster: Roster) -> None:
        self.about = f"the workers of {service.address}"
        self._service = service
        self._outbox = outbox
        self._roster = roster

    def accept(self, *workers: str) -> View:
        """Accept workers that named one of your accounts as their owner; they become active."""
        return self._each("accepting", "accept", workers)

    def offer(self, worker: str, to: str) -> View:
        """Offer a worker to another owner, who takes it."""
        return self._each(f"offering {worker}", "offerTransfer", [worker], to)

    def withdraw_offer(self, worker: str) -> View:
        """Take the offer of a worker back."""
        return self._each(f"taking the offer of {worker} back", "cancelTransfer", [worker])

    def take(self, *workers: str) -> View:
        """Take over workers that were offered to one of your accounts."""
        for row in self._roster.rows(workers):
            by = self._service.pendingOwner(row.id)
            self._outbox.send(f"taking {row.id}", self._service, "acceptTransfer", row.id, by=[by])
        return table(self._roster.rows(workers))

    def retire(self, *workers: str) -> View:
        """Retire workers for good: their ids and keys never come back. Also declines a pending one."""
        return self._each("retiring", "retire", workers)

    def set_operator(
        self, operator: str, *, days: float, off: bool = True, on: bool = False, keys: bool = False, owner: str = ""
    ) -> View:
        """Let an account switch all of an owner's workers off, or more, for some days."""
        rights = Right(0)
        for right, given in ((Right.SWITCH_OFF, off), (Right.SWITCH_ON, on), (Right.REPLACE_KEYS, keys)):
            rights |= right if given else Right(0)
        return self._operate(owner, operator, rights, newest_time(self._service) + round(days * _DAY))

    def remove_operator(self, operator: str, *, owner: str = "") -> View:
        """Take all rights upon an owner's workers back."""
        return self._operate(owner, operator, Right(0), 0)

    def _operate(self, owner: str, operator: str, rights: Right, until: int) -> View:
        owner = owner or self._only_account()
        self._outbox.send("naming an operator", self._service, "setOperator", operator, int(rights), until, by=[owner])
        held = Right(self._service.operatorRights(owner, operator))
        names = [right.name.lower().replace("_", " ") for right in Right if right in held and right.name]
        return listing({"owner": owner, "operator": operator, "rights": ", ".join(names) or "none"})

    def _each(self, purpose: str, function: str, workers: Any, *rest: Any) -> View:
        rows = self._roster.rows(workers)
        self._outbox.require(purpose, *([row.owner] for row in rows))
        for row in rows:
            self._outbox.send(f"{purpose} {row.id}", self._service, function, row.id, *rest, by=[row.owner])
        return table(self._roster.rows(workers))

    def _entitled(self, owner: str, right: Right) -> list[str]:
        """Name who may act: the owner, and those at hand whom it gave the right."""
        given = self._outbox.signers.such_that(
            lambda address: bool(self._service.operatorRights(owner, address) & int(right))
        )
        return [owner, *given]

    def _only_account(self) -> str:
        at_hand = self._outbox.signers.such_that(lambda _: True)
        if len(at_hand) != 1:
            raise NoSigner(f"{len(at_hand)} accounts are at hand: say whose operator it is to be")
        return at_hand[0]
