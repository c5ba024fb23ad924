"""Take out the revenue: `ape run withdraw --network …`."""

from __future__ import annotations

import click
from scripts._common import FleetCommand, acting

from quietfleet.console import Desk, View


@click.command(cls=FleetCommand)
@acting
@click.option("--to", default="", help="Somebody else than the service owner.")
def cli(desk: Desk, to: str) -> View:
    """Send all revenue to the service owner, or to an address."""
    return desk.service.withdraw(to)
