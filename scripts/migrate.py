"""Move a service to a new deployment: `ape run migrate --network … --account …`."""

from __future__ import annotations

from pathlib import Path

import click
from ape import project
from ape.api import AccountAPI
from ape.cli import account_option, network_option
from scripts import _migration, _parameters
from scripts._common import FleetCommand, connected, dry_run_option, json_option, outbox_of

from quietfleet.owners import report

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=FleetCommand)
@network_option(required=True)
@account_option()
@click.option("--params", type=FILE, help="What is to be different: a file like the one `deploy` takes.")
@click.option("--resume", "record", type=FILE, help="Go on after an interruption: the old deployment's file.")
@dry_run_option
@json_option
def cli(account: AccountAPI, params: Path | None, record: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Deploy a pair that is as the present one, ban what was revoked, name publishers, point from old to new."""
    outbox, view = outbox_of(account, rehearse=dry_run), None
    try:
        old = connected(outbox, record)
        changes = _parameters.load(params) if params else {}
        parameters = _parameters.filled(project, _migration.parameters_of(old) | changes, account.address)
        _migration.require_owner(old, account.address)
        if dry_run:
            _migration.rehearse(project, account, old, parameters)
        else:
            view = _migration.migrate(project, account, old, parameters, resumed=record is not None)
    finally:
        report(outbox.calls, view, dry_run=dry_run, as_json=as_json)
