"""What every operation costs, from receipts of a chain of its own: its floor, the committed snapshot, the cap."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # the bench is a folder of the repository, not of the package

from bench.gas.__main__ import SNAPSHOT
from bench.gas.costs import TRANSACTION_CAP, Item, calldata_gas, clear, log, total, update
from bench.gas.floors import AUDIT, CONFIRMED, NO_CEILING, RELEASES, SERVICE, VIEWS
from bench.gas.measuring import Operation, Run, measure

FLOOR = (Item("all of it", 100_000),)


@pytest.fixture(scope="module")
def run():
    return measure()


def test_gas__every_operation__stays_below_ceiling_snapshot_and_cap(run):
    assert run.faults(json.loads(SNAPSHOT.read_text())) == []


def test_gas__every_floor__was_measured_against(run):
    assert {one.name for one in run.operations} == {*SERVICE, *RELEASES, *AUDIT, *VIEWS}


def test_gas__views_without_ceiling__are_no_transactions():
    assert set(NO_CEILING) - {"setBootstrap"} == {"admits"} <= set(VIEWS)


def test_gas__hand_written_contracts__confirm_the_floors(run):
    confirmations = {one.name: one.confirmation for one in run.operations if one.confirmation}
    assert set(confirmations) == set(CONFIRMED)
    assert all(1 <= ratio < 1.03 for ratio in confirmations.values()), confirmations


def test_gas__measured_again__is_the_same(run):
    assert measure() == run


@pytest.mark.parametrize(("gas", "faults"), [(110_000, 0), (110_001, 1)])
def test_faults__at_and_above_the_ceiling__names_the_one_above(gas, faults):
    assert len(Run((Operation("enrol", gas, FLOOR),), {}).faults({"enrol": gas})) == faults


@pytest.mark.parametrize(("gas", "faults"), [(101_000, 0), (101_001, 1)])
def test_faults__at_and_above_one_percent_more__names_the_one_above(gas, faults):
    assert len(Run((Operation("enrol", gas, FLOOR),), {}).faults({"enrol": 100_000})) == faults


@pytest.mark.parametrize(("gas", "faults"), [(TRANSACTION_CAP, 0), (TRANSACTION_CAP + 1, 1)])
def test_faults__at_and_above_the_transaction_cap__names_the_one_above(gas, faults):
    floor = (Item("all of it", gas),)
    assert len(Run((Operation("enrolBatch 400", gas, floor),), {}).faults({"enrolBatch 400": gas})) == faults


def test_faults__not_in_the_snapshot__is_one():
    assert Run((Operation("new", 100_000, FLOOR),), {}).faults({}) == ["new: not in the snapshot"]


def test_floor__refunds__are_at_most_a_fifth():
    assert total((update("a"), clear("b"))) == 10_000 - 2_000
    assert total((Item("transaction", 21_000), clear("b"))) == 26_000 - 4_800


def test_floor__logs_and_calldata__cost_what_the_machine_charges():
    assert log(3, 2).gas == 375 * 4 + 8 * 64
    assert calldata_gas(b"\x00\x01") == 4 + 16
