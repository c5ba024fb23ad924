"""What a command that sends something prints, with Ape and without."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from quietfleet.owners._call import Call
from quietfleet.owners._view import View


def report(calls: list[Call], view: View | None, *, dry_run: bool, as_json: bool) -> None:
    """Print what was sent, or would be, and what came of it, also when a later call failed."""
    if as_json:
        made = {"dry_run": dry_run, "calls": [asdict(call) for call in calls]}
        click.echo(json.dumps(made | {"result": view.data if view else None}))
        return
    for call in calls:
        click.echo(call)
    if dry_run and calls:
        click.echo("Nothing was sent.")
    elif view is not None:
        click.echo(view)
