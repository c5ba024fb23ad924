"""Whom an owner lets act upon its devices: `ape run operators set 0x… --days 30 --account … --network …`."""

from __future__ import annotations

import click
from scripts._groups import group

from quietfleet.console import Fleet

OPERATOR, OWNER = click.argument("operator"), click.option("--owner", default="", help="Whose, if several are at hand.")

cli = group(
    "fleet",
    "Give accounts rights upon all devices of an owner, for a time, and take them back.",
    set=(
        Fleet.set_operator,
        OPERATOR,
        OWNER,
        click.option("--days", type=float, required=True, help="How long; 366 at most."),
        click.option("--off/--no-off", default=True, show_default=True, help="May it switch devices off?"),
        click.option("--on/--no-on", default=False, show_default=True, help="May it switch them on?"),
        click.option("--keys/--no-keys", default=False, show_default=True, help="May it replace their keys?"),
    ),
    remove=(Fleet.remove_operator, OPERATOR, OWNER),
)
