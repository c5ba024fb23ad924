"""`quietfleet alarms …` beside a processor that has its database open."""

from __future__ import annotations

import json

import pytest

from quietfleet.monitor.alarms import Seen
from quietfleet.monitor.rules import LONE_DRIFT, Action, load_rules
from quietfleet.storage import AuditLog, Database
from quietfleet.workers._alarms import Alarms


@pytest.fixture
def ledger(worker, tmp_path):
    (tmp_path / "state").mkdir(exist_ok=True)
    with Database(tmp_path / "state" / "worker.db") as database:
        AuditLog(database)
        alarms = Alarms(database)
        with database.transaction():
            alarms.see("s1", frozenset({"stuck"}), [Seen("stuck", "temp", 0.0, 9.0, 12)], load_rules(), now=1.0)
            alarms.see("s2", frozenset({LONE_DRIFT}), [Seen(LONE_DRIFT, "temp", 0.0, 9.0)], load_rules(), now=1.0)
        yield alarms


def test_list__some_are_open__a_sentence_each_and_leaves_with_1(ledger, run):
    shown = run("alarms", "list", passphrase=None)
    assert shown.exit_code == 1
    assert "temp of s1 has read the same value 12 times" in shown.stdout
    told = json.loads(run("alarms", "list", "--json", passphrase=None).stdout)
    assert [one["state"] for one in told] == ["open", "open"]
    assert told[0]["done"] == ["quarantine", "recalibrate", "impute"]


def test_list__all_spoken_about__leaves_with_0(ledger, run):
    assert run("alarms", "silence", "1", "--for", "7d", "--who", "anna", "--why", "Monday").exit_code == 0
    assert run("alarms", "approve", "2", "--who", "anna", "--why", "a new roof").exit_code == 0
    shown = run("alarms", "list", passphrase=None)
    assert shown.exit_code == 0
    assert "silent until" in shown.stdout
    assert ledger.verified() == {"s2"}


def test_override__beside_the_processor__holds_there_and_is_on_record(ledger, run):
    word = ("--action", "tell", "--who", "anna", "--why", "dry there")
    assert json.loads(run("alarms", "override", "1", *word, "--json").stdout)["state"] == "overridden"
    assert ledger.actions("s1") == {Action.TELL}
    told = json.loads(run("alarms", "show", "1", "--json", passphrase=None).stdout)
    assert [(line["kind"], line["who"], line["why"]) for line in told["trail"]] == [
        ("alarm-spoken", "anna", "dry there")
    ]


def test_approve__no_such_alarm__says_so(ledger, refused):
    assert "there is no alarm 9" in refused("alarms", "approve", "9", "--who", "anna", "--why", "x")


def test_rules__ours__are_printed(run):
    shown = run("alarms", "rules", passphrase=None)
    assert shown.exit_code == 0, shown.stderr
    assert "shared drift → retrain" in shown.stdout
    assert "left its peers" in json.loads(run("alarms", "rules", "--json", passphrase=None).stdout)["causes"]


def test_rules__a_file_with_a_mistake__says_which(run, tmp_path):
    (tmp_path / "rules.toml").write_text('[[rule]]\nwhen = ["stuk"]\n')
    shown = run("alarms", "rules", "--check", str(tmp_path / "rules.toml"), passphrase=None)
    assert shown.exit_code != 0
    assert "stuk" in str(shown.stderr) + str(shown.exception)
