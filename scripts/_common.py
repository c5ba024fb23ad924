"""What the scripts share: how they report mistakes, and how they reach the fleet of the connected chain."""

from __future__ import annotations

from pathlib import Path

import click
from ape import accounts, chain, project
from ape.cli import ConnectedProviderCommand, account_option

from quietfleet.console import Fleet, ServiceVerbs, accounts_at_hand, open_fleet
from quietfleet.errors import QuietfleetError

signer_option = account_option(prompt=False)  # without it, every account at hand may sign


class FleetCommand(ConnectedProviderCommand):
    """A command that says what went wrong in one sentence."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except QuietfleetError as error:
            raise click.ClickException(str(error)) from error


def deployments() -> Path:
    return project.path / "deployments"


def connected(account: object | None = None) -> tuple[Fleet, ServiceVerbs]:
    """Fleet and service of the connected chain, signed for by that account or by any at hand."""
    return open_fleet(deployments(), chain, lambda: [account] if account else accounts_at_hand(chain, accounts))
