"""What the scripts share: how they reach a deployment, how they report mistakes."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any

import click
from ape import accounts, chain, project
from ape.cli import ConnectedProviderCommand, account_option, network_option
from ape.logging import logger

from quietfleet.console import Desk, Outbox, Signers, View, accounts_at_hand, open_desk
from quietfleet.errors import QuietfleetError
from quietfleet.owners import report

signer_option = account_option(prompt=False)  # without it, every account at hand may sign
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    callback=lambda *given: _quiet(given[-1]),
    help="For programs, without Ape's log.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Show each call and its gas, and send nothing.")
record_option = click.option(
    "--record",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another deployment than the newest of this chain: its file.",
)


def _quiet(wanted: bool) -> bool:
    if wanted:
        logger.set_level("ERROR")  # Ape's log goes to standard output
    return wanted


class FleetCommand(ConnectedProviderCommand):
    """A command that says what went wrong in one sentence."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except QuietfleetError as error:
            raise click.ClickException(str(error)) from error


def acting(action: Callable[..., View]) -> Callable[..., None]:
    """Make a command of what somebody does at a deployment's desk: what was sent is reported, also when it fails."""

    @network_option(required=True)
    @signer_option
    @record_option
    @dry_run_option
    @json_option
    def command(account: Any, record: Path | None, *, dry_run: bool, as_json: bool, **given: Any) -> None:
        outbox, view = outbox_of(account, rehearse=dry_run), None
        try:
            view = action(connected(outbox, record), **given)
        finally:
            report(outbox.calls, view, dry_run=dry_run, as_json=as_json)

    options = command.__click_params__
    update_wrapper(command, action).__click_params__ = options + getattr(action, "__click_params__", [])
    return command


def outbox_of(account: Any = None, *, rehearse: bool = False) -> Outbox:
    """Let that account sign, or any at hand."""
    return Outbox(Signers(lambda: [account] if account else accounts_at_hand(chain, accounts)), rehearse=rehearse)


def connected(outbox: Outbox, record: Path | None = None) -> Desk:
    """Open the connected chain's newest deployment, or another one."""
    return open_desk(record or deployments() / f"{chain.chain_id}.json", chain, outbox)


def deployments() -> Path:
    return Path(project.path) / "deployments"
