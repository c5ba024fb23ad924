"""Show the fleet of a chain: `ape run status --network …`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from ape.cli import network_option
from scripts._common import FleetCommand, connected


@click.command(cls=FleetCommand)
@network_option(required=True)
@click.option("--json", "as_json", is_flag=True, help="For programs rather than people.")
def cli(as_json: bool) -> None:
    """Show the service's settings and every worker of the registry."""
    fleet, service = connected()
    if as_json:
        click.echo(json.dumps({"service": service.facts(), "workers": [asdict(row) for row in fleet.rows()]}))
    else:
        click.echo(f"{service.status()}\n{fleet.status()}")
