"""Deploy the contracts and write down where they stand: `ape run deploy --network … --account …`."""

from __future__ import annotations

from pathlib import Path

import click
from ape import project
from ape.api import AccountAPI, ProviderAPI
from ape.cli import account_option, network_option
from scripts import _founding, _parameters, _record
from scripts._common import FleetCommand, deployments, dry_run_option, json_option, outbox_of

from quietfleet.owners import report


@click.command(cls=FleetCommand)
@network_option(required=True)
@account_option()
@click.option("--params", default="scripts/params/default.yaml", type=click.Path(path_type=Path), show_default=True)
@click.option("--new", is_flag=True, help="Deploy them anew; the record of the present one is kept under a number.")
@dry_run_option
@json_option
def cli(account: AccountAPI, provider: ProviderAPI, params: Path, *, new: bool, dry_run: bool, as_json: bool) -> None:
    """Deploy Service, ModelReleases and AuditAnchor; parameters are checked before anything is sent."""
    parameters = _parameters.filled(project, _parameters.load(params), account.address)
    if not new:
        _record.require_free(deployments(), provider.chain_id)
    outbox, view = outbox_of(account), None
    try:
        if dry_run:
            _founding.rehearse(project, account, parameters, outbox)
        else:
            view = _founding.found(project, account, parameters, outbox).service.status()
    finally:
        report(outbox.calls, view, dry_run=dry_run, as_json=as_json)
