"""Switch workers on or off: `ape run toggle --off porch --network …`, or `--tag garden` for many."""

from __future__ import annotations

import click
from scripts._common import FleetCommand, acting

from quietfleet.console import Desk, View


@click.command(cls=FleetCommand)
@acting
@click.option("--on/--off", "active", required=True)
@click.option("--tag", default="", help="And all workers that carry this tag in the address book.")
@click.argument("workers", nargs=-1)
def cli(desk: Desk, workers: tuple[str, ...], *, tag: str, active: bool) -> View:
    """Switch workers on or off, by name, id or tag; each owner's together, signed for by it or by its operator."""
    return (desk.fleet.enable if active else desk.fleet.disable)(*workers, tag=tag)
