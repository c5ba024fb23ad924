"""The whole loop on this machine, checked line by line: `ape run demo`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from ape import accounts, networks, project

from quietfleet.errors import QuietfleetError


@click.command()
@click.option("--keep", is_flag=True, help="Leave the fleet running, for `ape console --network ethereum:fleet`.")
@click.option("--stop", is_flag=True, help="Stop a fleet that was kept, and do nothing else.")
@click.option(
    "--seed", type=int, default=2013, show_default=True, help="Draws the devices' keys and seeds the training."
)
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Save the last screen as a picture.")
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
def cli(keep: bool, stop: bool, seed: int, svg: Path | None, as_json: bool) -> None:
    """Start a chain and a fleet, tell its story in about a minute, check every line, clean up."""
    from scripts import _demo  # noqa: PLC0415 - Ape loads every script at every command, and this one imports a fleet

    folder = Path(project.path) / ".demo"
    try:
        stopped = _demo.stop(folder, project.path / "deployments")
        if stop:
            click.echo("The fleet is stopped." if stopped else "There is no fleet to stop.")
        else:
            sys.exit(_demo.run(folder, project, accounts, networks, keep=keep, seed=seed, svg=svg, as_json=as_json))
    except QuietfleetError as error:
        raise click.ClickException(str(error)) from error
