"""Show the fleet of a chain: `ape run status --network …`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from ape.cli import network_option
from scripts._common import FleetCommand, connected, json_option, outbox_of, record_option


@click.command(cls=FleetCommand)
@network_option(required=True)
@record_option
@json_option
def cli(record: Path | None, *, as_json: bool) -> None:
    """Show the service's settings, its configuration, the releases, and every worker of the registry."""
    desk = connected(outbox_of(), record)
    if as_json:
        shown = {
            "service": desk.service.facts(),
            "configuration": desk.service.configuration_facts(),
            "releases": desk.releases.facts(),
            "workers": [asdict(row) for row in desk.fleet.rows()],
        }
        click.echo(json.dumps(shown))
    else:
        views = (desk.service.status(), desk.service.configuration(), desk.releases.status(), desk.fleet.status())
        click.echo("\n".join(map(repr, views)))
