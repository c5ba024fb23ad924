from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # the bench is a folder of the repository, not of the package

from bench.dispatch import core, fleet, tables
from bench.dispatch.agents import Board
from bench.dispatch.experiments import FULL, QUICK, Cell
from bench.dispatch.fleet import Fleet, Outcome, quantile
from bench.dispatch.parts import PARTS, REST, Meter
from bench.dispatch.plan import PLAN, RELAYS, Plan, id_of, prepare

from quietfleet.chain.replica import Replica
from quietfleet.clock import ManualClock
from quietfleet.storage import Database

CPU = {"oracle": 0.2, "workers": 0.4, "relays": 0.8}


def outcome(deals, *, seconds=2.0, first=()):
    parts = {name: {"session": total / 4, REST: total / 2} for name, total in CPU.items()}
    return Outcome(seconds, [0.5] * deals, list(first), CPU, parts, Counter(), {})


def cell(table, terms, of):
    return Cell(table, f"{table} so and so", {"workers": 10, "min_pow": 0.0, "replicas": 1} | terms, 1.0, 1.0, of)


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "memory").mkdir()
    terms = {"workers": 5, "replicas": 2, "min_pow": 0.2, "quota": 40.0}
    return Plan(str(tmp_path / "memory"), str(tmp_path / "disk"), tuple(range(40_000, 40_000 + RELAYS)), **terms)


def test_prepare__a_fleet__everybody_knows_everybody_and_the_configuration(plan):
    prepare(plan)
    members = {id_of(role, number) for role, number in plan.members()}
    assert len(members) == RELAYS + 1 + 5
    for home in (plan.home("relay", 7), plan.home("seeker", 3), plan.home("provider", 0), plan.home("oracle", 1)):
        with Database(home / "worker.db") as database:
            replica = Replica(database)
            assert {worker.id for worker in replica.workers()} == members
            assert replica.configuration()[0].min_pow == 0.2
            owners = [worker.owner for worker in replica.workers()]
            assert len(set(owners)) == len(owners)
    assert msgspec.json.decode((Path(plan.folder) / PLAN).read_bytes(), type=Plan) == plan


def test_settings__of_the_oracle__replicas_share_a_store_on_disk_and_relays_have_the_quota(plan):
    assert plan.settings("oracle", 0).oracle.store == f"sqlite:{plan.disk}/shared.db"
    assert msgspec.structs.replace(plan, replicas=1).settings("oracle", 0).oracle.store == ""
    assert plan.settings("relay", 0).network.link_rate == 40.0
    assert plan.settings("seeker", 0).network.bloom_bits < 512


def test_meter__a_part_within_another__counts_as_itself_alone():
    clock = ManualClock(0.0)
    meter = Meter(clock.now)
    inner = meter.metered("store", lambda: clock.advance(3.0))
    meter.metered("session", lambda: (clock.advance(1.0), inner(), clock.advance(1.0)))()
    assert meter.calls == {"store": 1, "session": 1}
    assert meter.seconds == {"session": 2.0, "store": 3.0}


def test_meter__a_part_that_fails__is_counted_and_leaves_the_rest_right():
    meter = Meter()

    def fail():
        raise ValueError

    failing = meter.metered("store", fail)
    with pytest.raises(ValueError):
        meter.metered("session", failing)()
    meter.metered("session", lambda: None)()
    assert meter.calls == {"store": 1, "session": 2}
    assert min(meter.seconds.values()) >= 0


def test_parts__every_function_named__is_there():
    class Looking(Meter):
        def metered(self, part, function):
            self.calls[part] += callable(function)
            return function

    meter = Looking()
    meter.watch()
    assert meter.calls == {part: len(names) for part, names in PARTS.items()}


def test_result__all_tables__with_goals_and_what_a_core_alone_could_do(monkeypatch):
    monkeypatch.setattr(core, "result", lambda _: {"about": ["Goal."], "tables": [
        {"title": "core", "columns": ["workers", "matches/s"], "rows": [[10, 9000], [100, 4000]]}
    ]})  # fmt: skip
    cells = [
        cell("deals", {"min_pow": 0.2}, outcome(50)),
        cell("deals", {"parts": True}, outcome(300)),
        cell("latency", {}, outcome(3, first=[1.0, 2.0, 3.0])),
        cell("scaling", {"replicas": 2}, outcome(10)),
    ]
    found = tables.result_of(1, cells, cores=2)
    assert [len(table["rows"]) for table in found["tables"]] == [2, 2, 1, len(PARTS) + 1, 1]
    said = "\n".join(found["about"])
    assert "4,000 matches/s at the least; goal 5,000: missed" in said
    assert "25.0 deals/s; goal 20: holds" in said
    assert "150.0 deals/s; goal 200: missed" in said
    priced, waived = found["tables"][1]["rows"]
    assert (priced[3], priced[6:], waived[-1]) == (25.0, [4.0, 8.0, 16.0, 250], 1500)
    assert found["tables"][2]["rows"] == [["latency so and so", 10, 3, 2000, 3000]]


def test_result__nothing_was_brought_about__says_so_instead_of_dividing(monkeypatch):
    monkeypatch.setattr(core, "result", lambda _: {"about": [], "tables": [
        {"title": "core", "columns": [], "rows": [[10, 9000]]}
    ]})  # fmt: skip
    cells = [cell("deals", {}, outcome(0)), cell("latency", {}, outcome(0)), cell("scaling", {}, None)]
    found = tables.result_of(1, cells, cores=2)
    assert "did not come up in time: scaling, scaling so and so." in found["about"][-1]
    assert "0.0 deals/s; goal 200: missed" in "\n".join(found["about"])
    assert found["tables"][2]["rows"][0][2:] == [0, None, None]


@pytest.mark.parametrize("scale", [FULL, QUICK])
def test_scales__every_cell__is_one_that_a_plan_takes(scale):
    for one in scale.cells:
        plan = Plan("memory", "disk", tuple(range(RELAYS)), **one.terms)
        assert plan.seekers + plan.providers == plan.workers
        assert one.table in {"deals", "latency", "scaling"}


def test_quantile__of_few__is_one_of_them():
    assert [quantile([3, 1, 2], share) for share in (0.5, 0.99)] == [2, 3]
    assert quantile([], 0.5) is None


def test_started__a_fleet_that_comes_up_in_part__offers_and_seeks_in_the_same_shares(plan):
    large = msgspec.structs.replace(plan, workers=1_000)
    order = large.started()
    assert sorted(order) == sorted(member for member in large.members() if member[0] in {"seeker", "provider"})
    for few in (10, 100, 500):
        assert abs(sum(kind == "provider" for kind, _ in order[:few]) - few / 5) <= 1


def test_board__more_seekers_than_turns__whoever_had_one_waits_for_the_others(plan):
    board = Board(msgspec.structs.replace(plan, workers=10, at_once=2))
    assert [board.may_seek(name) for name in "abca"] == [True, True, False, True]
    board.had_turn("a")
    assert [board.may_seek(name) for name in "ca"] == [True, False]


def test_board__a_turn_for_everybody__nobody_waits(plan):
    board = Board(plan)
    assert board.may_seek("a")
    board.had_turn("a")
    assert "a" in board.seeking


def test_result__part_of_a_fleet_came_up__the_row_says_how_many_and_what_each_cost(monkeypatch):
    monkeypatch.setattr(core, "result", lambda _: {"about": [], "tables": [
        {"title": "core", "columns": [], "rows": [[10, 9000]]}
    ]})  # fmt: skip
    some = replace(outcome(10), came_up={"up": 400, "seconds": 240.4, "cpu": 20.0, "memory": 400 << 20})
    found = tables.result_of(1, [cell("scaling", {"workers": 1000}, some)], cores=2)
    assert found["tables"][-1]["rows"][0][:7] == [1, 1000, 400, 240, 50, 1.0, 5.0]


async def test_fleet__two_replicas__bring_deals_about_and_leave_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(fleet, "_memory", lambda: str(tmp_path))
    async with asyncio.timeout(200), Fleet.running(workers=3, replicas=2, stem="off", quota=400.0, parts=True) as small:
        while not (found := await small.load(1.0, 0.0)).deals:
            pass
        assert found.cpu.keys() == {"oracle", "workers", "relays"}
        assert found.parts["oracle"]["matching"] > 0
    assert list(tmp_path.iterdir()) == []
