"""What an enrolment costs: `ape run fee announce 2000000000000000 --network …`."""

from __future__ import annotations

import click
from scripts._groups import group

from quietfleet.console import ServiceVerbs

cli = group(
    "service",
    "Announce a fee, take the announcement back, put it in force a day later, or lower the cap for good.",
    announce=(ServiceVerbs.announce_fee, click.argument("fee", type=int)),
    cancel=(ServiceVerbs.cancel_fee,),
    apply=(ServiceVerbs.apply_fee,),
    lower_cap=(ServiceVerbs.lower_fee_cap, click.argument("cap", type=int)),
)
