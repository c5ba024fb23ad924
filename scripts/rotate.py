"""Rotate the messaging configuration: `ape run rotate --epoch epoch.json --network …`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from ape.api import AccountAPI
from ape.cli import network_option
from scripts._common import FleetCommand, connected, signer_option


@click.command(cls=FleetCommand)
@network_option(required=True)
@signer_option
@click.option("--epoch", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--lead", default=0, show_default=True, help="Seconds until it is in force.")
@click.option("--grace", default=60, show_default=True, help="Seconds for which the one before stays accepted.")
@click.option("--min-pow", default=0.2, show_default=True, help="Least proof of work of an envelope.")
@click.option("--max-ttl", default=60, show_default=True, help="Longest life of an envelope, in seconds.")
@click.option("--max-size", default=131_072, show_default=True, help="Most bytes of data in an envelope.")
def cli(account: AccountAPI | None, epoch: Path, **given: Any) -> None:
    """Set the next configuration; refused when the epoch is not the next version."""
    limits = {name: given[name] for name in ("lead", "grace", "min_pow", "max_ttl", "max_size")}
    _, service = connected(account)
    click.echo(service.rotate(epoch, **limits))
