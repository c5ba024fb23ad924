"""`quietfleet fleet …`: what owners do without Ape, with a keystore file and an endpoint."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from quietfleet.owners import AddressBook, Call, Row, View, report, table
from quietfleet.owners._keys import OwnerKeys
from quietfleet.settings import passphrase

if TYPE_CHECKING:
    from quietfleet.owners.fleet import OwnersFleet

_FILE = click.Path(path_type=Path, dir_okay=False)

_deployment = click.option(
    "--deployment",
    type=_FILE,
    required=True,
    envvar="QUIETFLEET_CHAIN_DEPLOYMENT",
    show_envvar=True,
    help="deployments/<chain-id>.json; the address book lies beside it, or where QUIETFLEET_BOOK says.",
)
_rpc = click.option(
    "--rpc",
    required=True,
    envvar="QUIETFLEET_CHAIN_RPC",
    show_envvar=True,
    help="The JSON-RPC endpoint; with a password in it, better from the environment, where nobody sees it.",
)
_keystores = click.option(
    "--keystore",
    "-k",
    "keystores",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    envvar="QUIETFLEET_OWNER_KEYSTORES",
    show_envvar=True,
    help="An owner's or operator's key file, or a folder of them; several times for several.",
)
_tag = click.option("--tag", default="", help="And all workers that carry this tag in the address book.")
_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
_worker = click.argument("worker")
_workers = click.argument("workers", nargs=-1)


@click.group()
def fleet() -> None:
    """See and switch your devices with a keystore file alone.

    \b
      quietfleet keygen owner.json                     an account, or take one of geth or Ape: the same kind of file
      quietfleet fleet name 0x… porch                  a name for a device, here alone
      quietfleet fleet tag porch garden                likewise a tag
      quietfleet fleet disable porch --tag garden -k owner.json
                                                       every counterpart severs its sessions with them

    Each device is signed for by its owner, or by an account with the owner's right. The passphrase of all key files
    comes from QUIETFLEET_PASSPHRASE or the file in QUIETFLEET_PASSPHRASE_FILE. Exit codes: 0 done, 1 refused, 2 not
    understood, 3 sent and no block has taken it yet.
    """  # noqa: D301 - click wants a real backspace there


@fleet.command()
@_workers
@_tag
@_deployment
@_rpc
@_json
def status(workers: tuple[str, ...], tag: str, deployment: Path, rpc: str, *, as_json: bool) -> None:
    """Show workers by name, id or tag; all of the registry if none is named, which reads its whole history."""

    async def read(owners: OwnersFleet) -> list[Row]:
        return await (owners.chosen(workers, tag) if workers or tag else owners.rows())

    rows = asyncio.run(_with_fleet(deployment, rpc, (), read, doing="reading the registry"))
    _show(table(rows), as_json=as_json)


def _switching(name: str, about: str, *, active: bool) -> None:
    @fleet.command(name, help=about)
    @_workers
    @_tag
    @_keystores
    @_deployment
    @_rpc
    @click.option("--wait", type=click.FloatRange(min=0), default=120.0, show_default=True, help="Seconds for a block.")
    @click.option("--dry-run", is_flag=True, help="Show each call and its gas, and send nothing; needs no passphrase.")
    @_json
    def command(
        workers: tuple[str, ...],
        tag: str,
        keystores: tuple[Path, ...],
        deployment: Path,
        rpc: str,
        wait: float,
        *,
        dry_run: bool,
        as_json: bool,
    ) -> None:
        calls: list[Call] = []
        rows: list[Row] | None = None

        async def switch(owners: OwnersFleet) -> list[Row]:
            owners.calls = calls
            return await owners.switch(workers, tag, active=active)

        options = {"wait": wait, "rehearse": dry_run, "sent": _announce}
        try:
            rows = asyncio.run(_with_fleet(deployment, rpc, keystores, switch, doing="switching", **options))
        finally:
            if calls or rows is not None:
                report(calls, None if rows is None else table(rows), dry_run=dry_run, as_json=as_json)


_switching("disable", "Switch workers off: every counterpart severs its sessions with them.", active=False)
_switching("enable", "Switch workers on again: they find their counterparts anew.", active=True)


@fleet.command()
@_worker
@click.argument("name")
@_deployment
@_json
def name(worker: str, name: str, deployment: Path, *, as_json: bool) -> None:
    """Remember a worker, by id or another name, under NAME; in the local address book alone."""
    book = _book(deployment)
    id_ = book.id_of(worker)
    book.add(name, id_)
    _show_entry(book, id_, as_json=as_json)


@fleet.command()
@_worker
@click.argument("tags", nargs=-1, required=True)
@_deployment
@_json
def tag(worker: str, tags: tuple[str, ...], deployment: Path, *, as_json: bool) -> None:
    """Put TAGS on a worker; in the local address book alone."""
    book = _book(deployment)
    id_ = book.id_of(worker)
    book.tag(id_, tags)
    _show_entry(book, id_, as_json=as_json)


@fleet.command()
@_worker
@click.argument("tags", nargs=-1)
@_deployment
@_json
def untag(worker: str, tags: tuple[str, ...], deployment: Path, *, as_json: bool) -> None:
    """Take TAGS off a worker, or all of its tags; in the local address book alone."""
    book = _book(deployment)
    id_ = book.id_of(worker)
    book.untag(id_, tags or book.tags_of(id_))
    _show_entry(book, id_, as_json=as_json)


async def _with_fleet(
    deployment: Path,
    rpc: str,
    keystores: tuple[Path, ...],
    act: Callable[[OwnersFleet], Awaitable[list[Row]]],
    *,
    doing: str,
    **options: Any,
) -> list[Row]:
    from quietfleet.chain.deployment import load_deployment  # noqa: PLC0415 - each command loads only what it needs
    from quietfleet.chain.failover import Failover  # noqa: PLC0415
    from quietfleet.owners.fleet import OwnersFleet  # noqa: PLC0415

    place = load_deployment(deployment)
    keys = OwnerKeys(keystores, partial(passphrase, os.environ))
    with Console(stderr=True).status(f"{doing} …"):  # seen on a terminal alone
        async with Failover([rpc], place) as client:
            book = AddressBook.beside(deployment, place.chain_id, os.environ)
            return await act(OwnersFleet(client, book, keys, **options))


def _announce(transaction: str) -> None:
    click.echo(f"sent {transaction}, waiting for a block to take it", err=True)


def _book(deployment: Path) -> AddressBook:
    from quietfleet.chain.deployment import load_deployment  # noqa: PLC0415 - each command loads only what it needs

    return AddressBook.beside(deployment, load_deployment(deployment).chain_id, os.environ)


def _show_entry(book: AddressBook, id_: str, *, as_json: bool) -> None:
    tags = book.tags_of(id_)
    shown = {"name": book.name_of(id_), "id": id_, "tags": ", ".join(tags)}
    click.echo(json.dumps(shown | {"tags": tags}) if as_json else " ".join(filter(None, shown.values())))


def _show(view: View, *, as_json: bool) -> None:
    click.echo(json.dumps(view.data) if as_json else view)
