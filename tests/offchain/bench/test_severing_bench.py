"""The bench of severing, at its smallest: what it measures is what it says."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # the bench is a folder of the repository, not of the package

from bench.severing.__main__ import faults, quantile, results
from bench.severing.measuring import AFTERWARDS, Outcome, Severed, measure
from bench.severing.world import World

from quietfleet.storage import AuditLog, Database


@pytest.fixture(scope="module")
def outcome_of(tmp_path_factory):
    """Measure a few switches in a world of two workers and six devices."""

    async def measured(sessions, times, **terms):
        folder = tmp_path_factory.mktemp("severing")
        async with World(folder, 2, 6, **terms) as world:
            return await measure(world, sessions, times, random.Random(3)), world

    return measured


async def test_measure__devices_that_go_on_sending__none_of_it_accepted_and_nothing_left(outcome_of):
    outcome, world = await outcome_of(3, 3)
    assert len(outcome.switches) == 3
    assert outcome.unwanted >= 3 * AFTERWARDS
    assert (outcome.accepted, outcome.rows) == (0, 0)
    entries = [entry for name in ("processor-0", "processor-1") for entry in trail(world, name)]
    assert sum(entry.kind == "severed" for entry in entries) == 9
    assert sum(entry.kind == "accepted" for entry in entries) >= 9, "the control: before, they were heard"
    for one in outcome.switches:
        assert 0 < one.acted <= one.whole
        assert one.seen > 0
        assert one.acted <= one.wiped
        assert one.busy > 0


def trail(world, name):
    with Database.observe(Path(world.plan.folder) / name / "worker.db") as database:
        return list(AuditLog(database, create=False).entries())


async def test_measure__worker_that_does_not_sever__is_found_out(outcome_of):
    outcome, _ = await outcome_of(2, 1, deaf=True)
    assert outcome.accepted > 0
    assert outcome.rows == 2
    assert len(faults(outcome)) >= 2


def test_faults__goals_met_and_missed():
    good, slow = Severed(0.01, 0.05, 0.06, 0.07, 0.0, 0.02), Severed(0.01, 0.2, 0.21, 0.22, 0.1, 0.02)
    assert faults(Outcome(1, [good] * 100)) == []
    assert len(faults(Outcome(1, [good] * 98 + [slow] * 2))) == 1
    assert len(faults(Outcome(1, [good], accepted=1, rows=1))) == 2


def test_quantile__of_a_hundred__is_the_last_but_one():
    assert quantile(range(100), 0.99) == 99
    assert quantile([5.0], 0.99) == 5.0
    assert quantile(range(101), 0.5) == 50


def test_results__of_any_outcome__make_a_table():
    tables = results([Outcome(1, [Severed(0.01, 0.05, 0.06, 0.07, 0.0, 0.02)], unwanted=20)])["tables"]
    assert tables[0]["rows"] == [[1, 1, 10.0, 10.0, 50.0, 50.0, 60.0, 70.0, 0.0, 20.0, 20.0]]
    assert tables[1]["rows"] == [[1, 20, 0, 0]]
    assert all(len(table["columns"]) == len(row) for table in tables for row in table["rows"])
