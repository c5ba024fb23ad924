"""Moving a service to a new deployment: each step is done only if it is still to be done.

Workers do not go along: a consent is bound to its contract, so that every device and every owner decides anew.
"""

from __future__ import annotations

from typing import Any

from scripts import _founding
from scripts._common import connected

from quietfleet.console import Desk, View, listing
from quietfleet.errors import MigrationError


def parameters_of(old: Desk) -> dict[str, Any]:
    """Read from the chain with what a service would be deployed to be as it is now."""
    service = old.service.facts()
    kept = {name: service[name] for name in ("owner", "fee", "fee_cap", "rotator")}
    return kept | {"approver": old.releases.facts()["approver"]}


def require_owner(old: Desk, account: str) -> None:
    """Raise MigrationError unless the account owns both contracts; it will own the new ones, too."""
    for part in (old.service, old.releases):
        owner = part.facts()["owner"]
        if owner != account:
            raise MigrationError(f"{part.about} belongs to {owner}: use that account")


def migrate(project: Any, account: Any, old: Desk, parameters: dict[str, Any], *, resumed: bool) -> View:
    """Do it all; `resumed` goes on with the newest deployment of this chain instead of a new one."""
    if parameters["owner"] != account.address:
        raise MigrationError("the new pair belongs to who moves it: offer both contracts to the new owner afterwards")
    if resumed and connected(old.outbox).service.facts()["address"] == old.service.facts()["address"]:
        raise MigrationError("--resume names the newest deployment itself: name the file of the one before")
    _stop_enrolments(old)
    new = connected(old.outbox) if resumed else _founding.found(project, account, parameters, old.outbox)
    _carry_over(old, new)
    successor = new.service.facts()["address"]
    if old.service.facts()["successor"] != successor:
        old.service.name_successor(successor)
    return listing(new.service.facts())


def rehearse(project: Any, account: Any, old: Desk, parameters: dict[str, Any]) -> None:
    """Estimate each call; those to contracts that do not stand yet are listed without."""
    _stop_enrolments(old)
    service, releases = _founding.rehearse(project, account, parameters, old.outbox)
    for channel, manifest in old.releases.revoked():
        given = {"channel": channel, "manifestHash": manifest}
        old.outbox.foresee(releases, "revoke", given, account.address)
    for publisher, gateway in old.releases.publishers().items():
        named = {"publisher": publisher, "gateway": gateway}
        old.outbox.foresee(releases, "setPublisher", named, account.address)
    old.service.name_successor(service)


def _stop_enrolments(old: Desk) -> None:
    if not old.service.facts()["enrolments_paused"]:
        old.service.pause_enrolments()


def _carry_over(old: Desk, new: Desk) -> None:
    for channel, manifest in old.releases.revoked():
        if not new.releases.is_revoked(channel, manifest):
            new.releases.revoke(channel, manifest)
    named = new.releases.publishers()
    for publisher, gateway in old.releases.publishers().items():
        if named.get(publisher) != gateway:
            new.releases.set_publisher(publisher, gateway)
    before, after = old.service.facts(), new.service.facts()
    if after["pow_bounds"] != before["pow_bounds"]:
        new.service.set_pow_bounds(*before["pow_bounds"])
    if before["bootstrap"] and not after["bootstrap"]:  # unless others were named as it was deployed
        new.service.set_bootstrap(*before["bootstrap"])
