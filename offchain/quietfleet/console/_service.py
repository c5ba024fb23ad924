"""The verbs of the service owner and of the rotator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from quietfleet.chain.types import Flag
from quietfleet.console._book import AddressBook
from quietfleet.console._signers import Signers
from quietfleet.console._time import newest_time
from quietfleet.console._view import View, listing
from quietfleet.errors import EpochError

_POW_SCALE = 10**9


class Epoch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public half of an epoch, as the oracle writes it for whoever rotates; 0x-hex, `gateway` may be zero."""

    version: int
    oracle: str
    gateway: str
    epoch_key_commitment: str
    oracle_card_digest: str
    gateway_card_digest: str

    @classmethod
    def load(cls, path: Path) -> Epoch:
        """Read an epoch file; EpochError if it cannot be."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise EpochError(f"{path}: {error}") from error


class ServiceVerbs:
    """The verbs of the service owner, and of the account that may rotate."""

    def __init__(self, service: Any, signers: Signers, book: AddressBook) -> None:
        self._service = service
        self._signers = signers
        self._book = book

    def facts(self) -> dict[str, Any]:
        """Return what the service is set to; fee and revenue in wei, `active_from` in Unix seconds."""
        latest, _ = self._service.configuration()
        return {
            "address": self._service.address,
            "owner": self._service.owner(),
            "rotator": self._service.rotator(),
            "fee": self._service.fee(),
            "revenue": self._service.balance,
            "workers": self._service.workerCount(),
            "configuration": latest[0],
            "active_from": latest[1],
        }

    def status(self) -> View:
        """Show what the service is set to."""
        return listing(self.facts())

    def rotate(
        self,
        epoch: Epoch | str | Path,
        *,
        lead: int = 0,
        grace: int = 60,
        min_pow: float = 0.2,
        max_ttl: int = 60,
        max_size: int = 131_072,
    ) -> View:
        """Set the next configuration, in force `lead` seconds from now; EpochError if it is not the next version."""
        public = epoch if isinstance(epoch, Epoch) else Epoch.load(Path(epoch))
        current = self._service.configuration()[0][0]
        if public.version != current + 1:
            raise EpochError(f"it is version {public.version}, the chain is at {current}")
        start = newest_time(self._service) + lead if lead else 0
        limits = (start, grace, round(min_pow * _POW_SCALE), max_ttl, max_size)
        digests = (public.epoch_key_commitment, public.oracle_card_digest, public.gateway_card_digest)
        rotator = self._signers.for_any("rotating", self._service.rotator(), self._service.owner())
        self._service.rotate((*limits, public.oracle, public.gateway, *digests), sender=rotator)
        return self.status()

    def suspend(self, *workers: str) -> View:
        """Suspend workers, by name or id, whatever their owners say."""
        return self._suspend(workers, suspended=True)

    def resume(self, *workers: str) -> View:
        """Take a suspension back."""
        return self._suspend(workers, suspended=False)

    def withdraw(self, to: str = "") -> View:
        """Send all revenue to an address, or to the service owner."""
        self._service.withdraw(to or self._service.owner(), sender=self._owner("withdrawing"))
        return self.status()

    def _suspend(self, workers: Sequence[str], *, suspended: bool) -> View:
        owner = self._owner("suspending")
        for worker in workers:
            id_ = self._book.id_of(worker)
            if (Flag.SUSPENDED in Flag(self._service.worker(id_).flags)) != suspended:
                self._service.setSuspended(id_, suspended, sender=owner)
        return self.status()

    def _owner(self, purpose: str) -> Any:
        return self._signers.for_any(purpose, self._service.owner())
