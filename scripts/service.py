"""What the service owner decides: `ape run service suspend porch --network …`."""

from __future__ import annotations

import click
from scripts._groups import group

from quietfleet.console import ServiceVerbs

WORKERS = click.argument("workers", nargs=-1, required=True)

cli = group(
    "service",
    "Suspend workers, pause enrolments, name roles, pass the service on.",
    status=(ServiceVerbs.status,),
    configuration=(ServiceVerbs.configuration,),
    suspend=(ServiceVerbs.suspend, WORKERS),
    resume=(ServiceVerbs.resume, WORKERS),
    pause_enrolments=(ServiceVerbs.pause_enrolments,),
    resume_enrolments=(ServiceVerbs.resume_enrolments,),
    rotator=(ServiceVerbs.set_rotator, click.argument("rotator")),
    pow_bounds=(ServiceVerbs.set_pow_bounds, click.argument("least", type=float), click.argument("most", type=float)),
    bootstrap=(ServiceVerbs.set_bootstrap, click.argument("enodes", nargs=-1, required=True)),
    clear_bootstrap=(ServiceVerbs.clear_bootstrap,),
    offer=(ServiceVerbs.offer_ownership, click.argument("to")),
    take=(ServiceVerbs.take_ownership,),
    successor=(ServiceVerbs.name_successor, click.argument("successor")),
)
