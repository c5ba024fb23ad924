"""Enrol devices with the consents they signed: `ape run enrol --consent consent.json --network …`."""

from __future__ import annotations

from pathlib import Path

import click
from scripts._common import FleetCommand, acting

from quietfleet.console import Desk, View


@click.command(cls=FleetCommand)
@acting
@click.option("--consent", "consents", required=True, multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--name", default="", help="Remember the worker under this name in the address book.")
def cli(desk: Desk, consents: tuple[Path, ...], name: str) -> View:
    """Enrol devices for the owners their consents name, and pay the fees; a folder stands for the files in it."""
    return desk.fleet.enrol(*consents, name=name)
