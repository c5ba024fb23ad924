"""Fleet and service of the chain Ape is connected to, as its deployment file describes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from quietfleet.chain.deployment import ContractRecord, load_deployment
from quietfleet.console._book import AddressBook
from quietfleet.console._fleet import Fleet
from quietfleet.console._service import ServiceVerbs
from quietfleet.console._signers import Signers

DEVELOPMENT_CHAINS = {1337, 31337}


def open_fleet(folder: Path, chain: Any, accounts: Callable[[], Iterable[Any]]) -> tuple[Fleet, ServiceVerbs]:
    """Read `<folder>/<chain-id>.json`, raising DeploymentError if it cannot be used."""
    deployment = load_deployment(folder / f"{chain.chain_id}.json")
    service = _contract(chain, deployment.service)
    book, signers = AddressBook(_book_path(folder, chain.chain_id)), Signers(accounts)
    return Fleet(service, signers, book, deployment.service.block), ServiceVerbs(service, signers, book)


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


def _book_path(folder: Path, chain_id: int) -> Path:
    return Path(os.environ.get("QUIETFLEET_BOOK") or folder / f"{chain_id}.book.json")
