"""Deploy the contracts and write down where they stand: `ape run deploy --network … --account …`."""

from __future__ import annotations

from pathlib import Path

import click
from ape import project
from ape.api import AccountAPI, ProviderAPI
from ape.cli import account_option, network_option
from scripts import _deployment
from scripts._common import FleetCommand, deployments


@click.command(cls=FleetCommand)
@network_option(required=True)
@account_option()
@click.option("--params", default="scripts/params/default.yaml", type=click.Path(path_type=Path), show_default=True)
@click.option("--replace", is_flag=True, help="Put the new deployment in the place of the one on record.")
def cli(account: AccountAPI, provider: ProviderAPI, params: Path, replace: bool) -> None:
    """Deploy Service and ModelReleases; parameters are checked before anything is sent."""
    parameters = _deployment.load_parameters(params)
    if not replace:
        _deployment.refuse_to_replace(deployments(), provider.chain_id)
    deployment = _deployment.deploy(project, account, parameters)
    path = _deployment.write(deployments(), deployment)
    for name, contract in deployment["contracts"].items():
        click.echo(f"{name} stands at {contract['address']} since block {contract['block']}")
    click.echo(f"Written to {path}")
