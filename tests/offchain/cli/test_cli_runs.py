"""`quietfleet runs …` beside a gateway that has its database open."""

from __future__ import annotations

import json

import pytest

from quietfleet.settings import load_settings
from quietfleet.storage import AuditLog, Database
from quietfleet.workers._models import open_registry
from quietfleet.workers._runs import Runs, RunState


@pytest.fixture
def ledger(worker, tmp_path):
    with Database(tmp_path / "state" / "worker.db") as database:
        audit = AuditLog(database)
        open_registry(load_settings(tmp_path / "worker.toml", {}), database, worker.to_bytes(), audit.append)
        yield Runs(database, bytes)


def test_start__beside_the_gateway__due_there_and_on_record(ledger, run):
    made = run("runs", "start", "--who", "anna", "--why", "new sensors", "--json")
    assert made.exit_code == 0, made.stderr
    name = json.loads(made.stdout)["run"]
    assert ledger.due(1e12).id == name
    told = json.loads(run("runs", "show", name, "--json", passphrase=None).stdout)
    assert [line["why"] for line in told["evidence"]] == ["new sensors"]
    assert [line["kind"] for line in told["trail"]] == ["run-asked"]
    assert "manual" in run("runs", "list", passphrase=None).stdout


def test_cancel__still_waits__cancelled(ledger, run):
    name = ledger.begin("drift", {}, now=1.0)
    assert run("runs", "cancel", name, "--who", "anna", "--why", "not today").exit_code == 0
    assert ledger.get(name).state is RunState.CANCELLED


def test_show__no_such_run__says_so(ledger, refused):
    assert "no run" in refused("runs", "show", "feed")


def test_trace__a_run__its_reason_and_its_end_as_a_tree_and_as_json(ledger, run, tmp_path):
    name = ledger.begin("drift", {"found": {"channels": ["temp"]}}, now=1.0)
    ledger.start(name)
    AuditLog(ledger._database).append("training-failed", {"run": name, "reason": "[too] few rows"}, 2.0)
    ledger.fail(name, "too few rows", now=2.0, again=False)
    shown = run("trace", name, passphrase=None)
    assert shown.exit_code == 0, shown.stderr
    assert all(word in shown.stdout for word in (name, "failed", "drift", "channels", "[too] few rows"))
    (told,) = json.loads(run("trace", name, "--json", passphrase=None).stdout)
    assert (told["run"]["id"], told["version"], told["releases"]) == (name, None, [])


def test_trace__nothing_of_that_name__one_sentence(ledger, refused):
    assert "nothing here is called feed" in refused("trace", "feed")


def test_trace__processors_fitted_heads_on_a_release__counted(ledger, run):
    name = ledger.begin("drift", {}, now=1.0)
    ledger.start(name)
    ledger.finish(name, {"manifest": "ab" * 32}, now=2.0)
    audit = AuditLog(ledger._database)
    audit.append("release-opened", {"sequence": 3, "manifest": "ab" * 32}, 3.0)
    for why in ("", "", "worse than the release"):
        audit.append("head-reported", {"release": 3, "why": why}, 4.0)
    shown = run("trace", name, passphrase=None)
    assert "heads that processors fitted on it: 2, and let go of: 1" in shown.stdout
    (told,) = json.loads(run("trace", name, "--json", passphrase=None).stdout)
    assert told["releases"][0]["heads"] == [2, 1]
