"""The bench of the pipeline, at its smallest: what it measures is what it says."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # the bench is a folder of the repository, not of the package

from bench.pipeline.__main__ import Edge, faults, results
from bench.pipeline.personal import measure

from quietfleet.pipeline.project import shipped


@pytest.fixture(scope="module")
def outcome():
    return measure(6, 3, shipped("forecast"), 1)


EDGES = {
    "ours": Edge(0.2, 70 << 20, 9.0, 12.0, 20.0),
    "personal": Edge(0.3, 75 << 20, 9.0, 12.0, 20.0),
    "sklearn": Edge(1.1, 160 << 20, 280.0, 400.0, 20.0),
}


def test_measure__few_devices__both_choose_the_same(outcome):
    assert (outcome.agreed, outcome.sampled, outcome.extrapolated) == (3, 3, True)
    assert outcome.theirs_for_all == pytest.approx(2 * outcome.theirs)
    assert sum(outcome.personal.counts.values()) == 6
    assert faults([outcome], EDGES) == []


def test_faults__every_goal_missed__names_each(outcome):
    slow = replace(outcome, devices=1000, whole=6.0, agreed=2)
    missed = faults([slow], EDGES | {"ours": Edge(2.0, 100 << 20, 60.0, 300.0, 21.0)})
    assert len(missed) == 7


def test_results__what_was_not_measured_on_all__says_so(outcome):
    first, second, third = results([outcome, replace(outcome, devices=3)], EDGES)["tables"]
    assert [row[5] for row in first["rows"]] == ["from 3", "measured"]
    assert all(len(row) == len(table["columns"]) for table in (first, second, third) for row in table["rows"])
