"""The verbs of the service owner and of the rotator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quietfleet.chain.types import Flag
from quietfleet.console._bootstrap import checked, named_relays, shown
from quietfleet.console._configuration import POW_SCALE, Epoch, Limits, newest
from quietfleet.console._outbox import Outbox
from quietfleet.console._roster import Roster
from quietfleet.console._time import newest_time
from quietfleet.console._verbs import Verbs
from quietfleet.errors import EpochError
from quietfleet.owners import View, date, listing, table

_NOBODY = "0x" + 40 * "0"


class ServiceVerbs(Verbs):
    """The verbs of the service owner, and of the account that may rotate."""

    called = "service"

    def __init__(self, service: Any, outbox: Outbox, roster: Roster) -> None:
        self.about = f"the contract {service.address}"
        self._service = service
        self._outbox = outbox
        self._roster = roster

    def facts(self) -> dict[str, Any]:
        """Return what the service is set to; fees and revenue in wei."""
        service = self._service
        announced, applicable_from = service.announcedFee()
        return {
            "address": service.address,
            "owner": service.owner(),
            "offered_to": service.pendingOwner(),
            "rotator": service.rotator(),
            "fee": service.fee(),
            "fee_cap": service.feeCap(),
            "announced_fee": announced if applicable_from else None,
            "announced_fee_from": applicable_from or None,
            "revenue": service.balance,
            "enrolments_paused": service.paused(),
            "pow_bounds": [bound / POW_SCALE for bound in service.powBounds()],
            "bootstrap": named_relays(service),
            "successor": service.successor(),
        }

    def configuration_facts(self) -> dict[str, Any]:
        """Return the newest configuration, its digest and the version before; empty if there is none."""
        found = newest(self._service)
        if found is None:
            return {}
        anchor = self._service.configuration()
        digest = {"digest": f"0x{anchor.digest.hex().removeprefix('0x')}"}
        in_force = {"in_force": bool(self._service.accepts(anchor.digest))}
        return found | digest | in_force | {"previousVersion": anchor.previousVersion}

    def status(self) -> View:
        """Show what the service is set to."""
        facts = self.facts()
        return listing(facts | {"bootstrap": "\n".join(map(shown, facts["bootstrap"]))}, facts)

    def configuration(self) -> View:
        """Show the newest configuration, proven by its digest on chain."""
        facts = self.configuration_facts()
        if not facts:
            return listing({"version": 0})
        shown = {"activeFrom": date(facts["activeFrom"]), "minPow": facts["minPow"] / POW_SCALE}
        return listing(facts | shown, facts)

    def rotate(
        self, epoch: Epoch | str | Path | None = None, *, at_once: bool = False, keep_keys: bool = False, **limits: Any
    ) -> View:
        """Set the next configuration, in force `lead` seconds from now, or `at_once` and without grace in an emergency.

        `keep_keys` takes from the newest one what is not named here. EpochError if it is not the next version.
        """
        kept = self._kept() if keep_keys else None
        public = self._epoch(epoch, kept)
        current = self._service.configuration().version
        if public.version != current + 1:
            raise EpochError(f"it is version {public.version}, the chain is at {current}")
        wanted = (Limits.kept(kept) if kept else Limits()).changed(at_once=at_once, **limits)
        start = newest_time(self._service) + wanted.lead if wanted.lead else 0
        scaled = (start, wanted.grace, round(wanted.min_pow * POW_SCALE), wanted.max_ttl, wanted.max_size)
        digests = (public.epoch_key_commitment, public.oracle_card_digest, public.gateway_card_digest)
        terms = (*scaled, public.oracle, public.gateway, *digests)
        by = [self._service.rotator(), self._service.owner()]
        self._outbox.send("rotating", self._service, "rotateAtOnce" if at_once else "rotate", terms, by=by)
        return self.configuration()

    def suspend(self, *workers: str) -> View:
        """Suspend workers, by name or id, whatever their owners say."""
        return self._suspend(workers, suspended=True)

    def resume(self, *workers: str) -> View:
        """Take a suspension back."""
        return self._suspend(workers, suspended=False)

    def withdraw(self, to: str = "") -> View:
        """Send all revenue to an address, or to the service owner."""
        return self._own("withdraw", to or self._service.owner())

    def announce_fee(self, fee: int) -> View:
        """Announce another fee, in wei; it can be applied a day later, for a week."""
        return self._own("announceFee", fee)

    def cancel_fee(self) -> View:
        """Take the announced fee back."""
        return self._own("cancelFee")

    def apply_fee(self) -> View:
        """Put the announced fee in force."""
        return self._own("applyFee")

    def lower_fee_cap(self, cap: int) -> View:
        """Lower the most an enrolment may ever cost, in wei, for good."""
        return self._own("lowerFeeCap", cap)

    def pause_enrolments(self) -> View:
        """Take no new workers; nothing else stops."""
        return self._own("setPaused", True)

    def resume_enrolments(self) -> View:
        """Take new workers again."""
        return self._own("setPaused", False)

    def set_rotator(self, rotator: str = _NOBODY) -> View:
        """Name who may rotate beside the owner; nobody, if left out."""
        return self._own("setRotator", rotator)

    def set_pow_bounds(self, least: float, most: float) -> View:
        """Set within which bounds a rotation may choose the least proof of work."""
        return self._own("setPowBounds", round(least * POW_SCALE), round(most * POW_SCALE))

    def set_bootstrap(self, *enodes: str) -> View:
        """Name the relays that workers begin with, as `enode://` URLs, in place of those before."""
        return self._own("setBootstrap", checked(enodes))

    def clear_bootstrap(self) -> View:
        """Take the list of relays back: workers begin with those of their settings alone."""
        return self._own("setBootstrap", [])

    def offer_ownership(self, to: str = _NOBODY) -> View:
        """Offer the post of the service owner to another account; to nobody, the offer is taken back."""
        return self._own("transferOwnership", to)

    def take_ownership(self) -> View:
        """Take the post of the service owner that was offered to one of your accounts."""
        by = [self._service.pendingOwner()]
        self._outbox.send("taking the service over", self._service, "acceptOwnership", by=by)
        return self.status()

    def name_successor(self, successor: str) -> View:
        """Tell everybody to which contract the service has moved."""
        return self._own("nameSuccessor", successor)

    def _kept(self) -> dict[str, Any]:
        found = newest(self._service)
        if found is None:
            raise EpochError("there is no configuration yet whose keys could be kept")
        return found

    @staticmethod
    def _epoch(epoch: Epoch | str | Path | None, kept: dict[str, Any] | None) -> Epoch:
        if (epoch is None) == (kept is None):
            raise EpochError("name either an epoch or that the keys are kept")
        if isinstance(epoch, Epoch):
            return epoch
        return Epoch.kept(kept) if kept else Epoch.load(Path(str(epoch)))

    def _suspend(self, workers: Sequence[str], *, suspended: bool) -> View:
        for row in self._roster.rows(workers):
            if (Flag.SUSPENDED in Flag(self._service.worker(row.id).flags)) != suspended:
                self._own("setSuspended", row.id, suspended)
        return table(self._roster.rows(workers))

    def _own(self, function: str, *arguments: Any) -> View:
        self._outbox.send(f"{function} of the service", self._service, function, *arguments, by=[self._service.owner()])
        return self.status()
