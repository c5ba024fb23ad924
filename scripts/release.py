"""Move a model release on: `ape run release approve weather 3 0x<manifest> --network …`."""

from __future__ import annotations

import click
from scripts._groups import FILE, group

from quietfleet.console import ReleaseVerbs

CHANNEL, MANIFEST = click.argument("channel"), click.argument("manifest")
NEWEST = click.argument("sequence", type=int, default=0)

cli = group(
    "releases",
    "A channel goes by its name, a manifest by its hash, a release by its number; without one it is the newest.",
    status=(ReleaseVerbs.status, click.argument("channel", default="")),
    history=(ReleaseVerbs.history, CHANNEL),
    propose=(ReleaseVerbs.propose, CHANNEL, click.option("--terms", required=True, type=FILE)),
    approve=(ReleaseVerbs.approve, CHANNEL, click.argument("sequence", type=int), MANIFEST),
    open=(ReleaseVerbs.open, CHANNEL, NEWEST),
    pause=(ReleaseVerbs.pause, CHANNEL, NEWEST),
    resume=(ReleaseVerbs.resume, CHANNEL, NEWEST),
    finalise=(
        ReleaseVerbs.finalise,
        CHANNEL,
        MANIFEST,
        click.option("--report", required=True, type=FILE),
        click.option("--floor", default=0, help="The least number a device may take up from now on; 0 leaves it."),
    ),
    roll_back=(ReleaseVerbs.roll_back, CHANNEL, MANIFEST),
    revoke=(ReleaseVerbs.revoke, CHANNEL, MANIFEST),
    publisher=(ReleaseVerbs.set_publisher, click.argument("publisher"), click.argument("gateway")),
    remove_publisher=(ReleaseVerbs.remove_publisher, click.argument("publisher")),
    approver=(ReleaseVerbs.set_approver, click.argument("approver")),
    pause_proposals=(ReleaseVerbs.pause_proposals,),
    resume_proposals=(ReleaseVerbs.resume_proposals,),
    offer=(ReleaseVerbs.offer_ownership, click.argument("to")),
    take=(ReleaseVerbs.take_ownership,),
)
