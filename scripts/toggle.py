"""Switch workers on or off: `ape run toggle --off porch --network …`."""

from __future__ import annotations

import click
from ape.api import AccountAPI
from ape.cli import network_option
from scripts._common import FleetCommand, connected, signer_option


@click.command(cls=FleetCommand)
@network_option(required=True)
@signer_option
@click.option("--on/--off", "active", required=True)
@click.argument("workers", nargs=-1, required=True)
def cli(account: AccountAPI | None, active: bool, workers: tuple[str, ...]) -> None:
    """Switch workers on or off, by name or id; each is signed for by the account that owns it."""
    fleet, _ = connected(account)
    click.echo(fleet.enable(*workers) if active else fleet.disable(*workers))
