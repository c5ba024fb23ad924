"""The ledger of training runs, against a plain model, over crashes."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quietfleet.errors import PipelineError
from quietfleet.storage import Database
from quietfleet.workers._runs import BACKOFF, RETRIES, Runs, RunState


def ledger(database, random):
    return Runs(database, random.randbytes)


@pytest.fixture
def runs(tmp_path):
    with Database(tmp_path / "worker.db") as database:
        yield ledger(database, Random(7))


def test_begin__another_waits__one_run_with_the_evidence_of_both(runs):
    first = runs.begin("drift", {"found": 1}, now=0.0)
    assert runs.begin("manual", {"who": "anna"}, now=1.0) == first
    assert [line["trigger"] for line in runs.get(first).evidence] == ["drift", "manual"]


def test_due__another_under_way__waits_for_it(runs):
    first = runs.begin("drift", {}, now=0.0)
    runs.start(first)
    second = runs.begin("manual", {}, now=1.0)
    assert second != first
    assert runs.due(1.0) is None
    runs.finish(first, {"version": 1}, now=2.0)
    assert runs.due(2.0).id == second


def test_fail__fault_of_the_machine__tried_again_later_each_time_and_then_given_up(runs):
    run, now, waits = runs.begin("drift", {}, now=0.0), 0.0, []
    while (due := runs.get(run)).state is RunState.WAITING:
        waits.append(due.due - now)
        now = due.due
        assert runs.due(now - 0.1) is None or not waits[-1]
        runs.start(run)
        runs.fail(run, "no room", now=now, again=True)
    assert waits == [0.0, *(BACKOFF * 2**tries for tries in range(RETRIES))]
    assert (runs.get(run).state, runs.get(run).outcome) == (RunState.FAILED, {"error": "no room"})


def test_fail__data_is_no_good__given_up_at_once(runs):
    run = runs.begin("drift", {}, now=0.0)
    runs.start(run)
    assert runs.fail(run, "too few rows", now=1.0, again=False) is RunState.FAILED


def test_cancel__under_way__refused(runs):
    run = runs.begin("drift", {}, now=0.0)
    runs.start(run)
    with pytest.raises(PipelineError, match="does not wait"):
        runs.cancel(run, "anna", now=1.0)


class Ledger(RuleBasedStateMachine):
    """Whatever comes in whatever order: at most one waits, at most one is under way, and no evidence is lost."""

    def __init__(self):
        super().__init__()
        self.random = Random(7)
        self.folder = TemporaryDirectory()
        self.database = Database(Path(self.folder.name) / "worker.db")
        self.runs, self.now, self.said, self.tries = ledger(self.database, self.random), 0.0, 0, {}

    @property
    def under_way(self):
        return next((one.id for one in self.runs.all() if one.state is RunState.RUNNING), None)

    @rule()
    def trigger(self):
        self.runs.begin("drift", {"n": self.said}, now=self.now)
        self.said += 1

    @rule(seconds=st.floats(0, 1000))
    def pass_time(self, seconds):
        self.now += seconds

    @rule()
    def tick(self):
        if (due := self.runs.due(self.now)) is not None:
            self.runs.start(due.id)
            self.tries[due.id] = self.tries.get(due.id, 0) + 1

    @precondition(lambda self: self.under_way)
    @rule()
    def finish(self):
        self.runs.finish(self.under_way, {}, now=self.now)

    @precondition(lambda self: self.under_way)
    @rule(again=st.booleans())
    def fail(self, again):
        self.runs.fail(self.under_way, "no room", now=self.now, again=again)

    @rule()
    def cancel(self):
        for one in self.runs.all():
            if one.state is RunState.WAITING:
                self.runs.cancel(one.id, "anna", now=self.now)

    @rule()
    def crash(self):
        self.database.close()
        self.database = Database(Path(self.folder.name) / "worker.db")
        self.runs = ledger(self.database, self.random)
        self.runs.resume(now=self.now)
        assert self.under_way is None

    @invariant()
    def holds(self):
        states = [one.state for one in self.runs.all()]
        assert states.count(RunState.WAITING) <= 1
        assert states.count(RunState.RUNNING) <= 1
        told = {line["n"] for one in self.runs.all() for line in one.evidence}
        assert told == set(range(self.said))
        for one in self.runs.all():
            assert one.tries == self.tries.get(one.id, 0) <= RETRIES + 1
            assert (one.ended is None) == (one.state in {RunState.WAITING, RunState.RUNNING})

    def teardown(self):
        self.database.close()
        self.folder.cleanup()


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
