"""Enrol a device with the consent it signed: `ape run enrol --consent consent.json --network …`."""

from __future__ import annotations

from pathlib import Path

import click
from ape.api import AccountAPI
from ape.cli import network_option
from scripts._common import FleetCommand, connected, signer_option

from quietfleet.chain.consent import Consent


@click.command(cls=FleetCommand)
@network_option(required=True)
@signer_option
@click.option("--consent", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", default="", help="Remember the worker under this name in the address book.")
def cli(account: AccountAPI | None, consent: Path, name: str) -> None:
    """Enrol a device for the owner its consent names, and pay the fee."""
    fleet, _ = connected(account)
    click.echo(fleet.enrol(Consent.from_json(consent.read_bytes()), name))
