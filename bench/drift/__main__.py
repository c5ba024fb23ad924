"""`python -m bench.drift`: what a monitor notices, how soon, how often for nothing. Exit code 1 if a goal is missed.

--quick takes three stretches of the year, without the field and without other recordings; --update writes
bench/results/drift.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import click
from bench import report, showing
from bench.drift import elsewhere, faults, field, ours, speed, standins, unseen
from bench.drift.scoring import Score, score
from bench.drift.streams import STRETCHES, Stream, streams, whole_year
from bench.drift.tables import Measured, missed, results

LONE_STRETCHES = (0, 4, 8)  # judging a device by its own past takes 20 ms


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Without the field and other recordings, on three stretches.")
@click.option("--update", is_flag=True, help="Write the results and renew the report.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--seed", default=1, help="Of the moments at which faults begin.")
def main(quick: bool, update: bool, as_json: bool, seed: int) -> None:
    made = streams(seed, 3 if quick else STRETCHES)
    with tempfile.TemporaryDirectory(prefix="drift-") as name:
        folder = None if quick else Path(name)
        scores = judged(made, folder)
        found, outage = faults.measure(made, seed)
        timed, difference = speed.measure(seed, folder)
    stood_in = standins.measure(whole_year())
    others = [] if quick else [unseen.measure(one, seed) for one in elsewhere.recordings()]
    measured = Measured(scores, found, outage, timed, difference, stood_in, others)
    result = results(measured, "" if quick else field.versions())
    if update:
        report.write("drift", result)
    if as_json:
        click.echo(json.dumps(result))
    else:
        showing.show(result)
    goals = missed(measured)
    for goal in goals:
        click.echo(goal, err=True)
    sys.exit(1 if goals else 0)


def judged(made: list[Stream], folder: Path | None) -> dict[str, Score]:
    """Let every method judge the streams: ours, and the field if there is a folder to work in."""
    some = [one for one in made if one.stretch in LONE_STRETCHES]
    scores = {
        "ours, against peers": score(made, ours.peers(made)),
        "ours, from a week": score(made, ours.peers(made, ours.WEEK)),
        "ours, a month later": score(made, ours.grown(made)),
        "ours, a lone device": score(some, ours.lone(some)),
        "ours, its channels alone": score(made, ours.agreeing(made)),
        "70 % to the letter": score(made, ours.literal(made)),
    }
    if folder is not None:
        scores |= {name: score(run_on, alarms) for name, (run_on, alarms) in field.judge(made, folder).items()}
    return scores


if __name__ == "__main__":
    main()
