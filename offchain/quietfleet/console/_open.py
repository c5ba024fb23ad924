"""Fleet, service and releases of the chain Ape is connected to, as its deployment file describes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from quietfleet.chain.deployment import ContractRecord, load_deployment
from quietfleet.console._fleet import Fleet
from quietfleet.console._outbox import Outbox
from quietfleet.console._releases import ReleaseVerbs
from quietfleet.console._roster import Roster
from quietfleet.console._service import ServiceVerbs
from quietfleet.owners import AddressBook

DEVELOPMENT_CHAINS = {1337, 31337}


class Desk(NamedTuple):
    """Everything the operators of one deployment speak to, and the outbox all of it shares."""

    fleet: Fleet
    service: ServiceVerbs
    releases: ReleaseVerbs
    outbox: Outbox


def open_desk(record: Path, chain: Any, outbox: Outbox) -> Desk:
    """Read a deployment file and name what stands there; DeploymentError if it cannot be used."""
    deployment = load_deployment(record)
    service, releases = _contract(chain, deployment.service), _contract(chain, deployment.releases)
    names = AddressBook.beside(record, chain.chain_id, os.environ)
    roster = Roster(service, names, deployment.service.block)
    return Desk(
        Fleet(service, outbox, names, roster),
        ServiceVerbs(service, outbox, roster),
        ReleaseVerbs(releases, outbox, deployment.releases.block),
        outbox,
    )


def accounts_at_hand(chain: Any, accounts: Any) -> Iterator[Any]:
    """Yield Ape's keystore accounts and, on a development chain, its test accounts."""
    yield from accounts
    if chain.chain_id in DEVELOPMENT_CHAINS:
        yield from accounts.test_accounts


def _contract(chain: Any, record: ContractRecord) -> Any:
    """Bind the ABI it was deployed with, without what Ape remembers of an earlier chain at the same address."""
    abi = list(record.abi)
    return chain.contracts.instance_at(
        record.address, abi=abi, fetch_from_explorer=False, fetch_from_disk=False, detect_proxy=False
    )
