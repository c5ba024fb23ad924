"""`quietfleet alarms …` beside a processor that has its database open."""

from __future__ import annotations

import json
import time

import pytest

from quietfleet.monitor.alarms import PLACE, Seen
from quietfleet.monitor.rules import LONE_DRIFT, Action, load_rules
from quietfleet.storage import AuditLog, Database
from quietfleet.workers._alarms import Alarms


@pytest.fixture
def database(worker, tmp_path):
    (tmp_path / "state").mkdir(exist_ok=True)
    with Database(tmp_path / "state" / "worker.db") as database:
        yield database


@pytest.fixture
def ledger(database):
    AuditLog(database)
    alarms = Alarms(database)
    with database.transaction():
        alarms.see("s1", frozenset({"stuck"}), [Seen("stuck", "temp", 0.0, 9.0, 12)], load_rules(), now=1.0)
        alarms.see("s2", frozenset({LONE_DRIFT}), [Seen(LONE_DRIFT, "temp", 0.0, 9.0)], load_rules(), now=1.0)
    return alarms


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


def test_show__no_such_alarm__says_so(ledger, refused):
    assert "there is no alarm 9" in refused("alarms", "show", "9", passphrase=None)


@pytest.mark.parametrize("word", [("approve", "1"), ("silence", "1", "--for", "1h"), ("override", "1")])
def test_word__about_one_that_is_over__says_so_and_nothing_is_on_record(ledger, database, refused, word):
    with database.transaction():
        ledger.see("s1", frozenset({"stuck"}), [], load_rules(), now=2.0)
    assert "alarm 1 is over" in refused("alarms", *word, "--who", "anna", "--why", "x")
    assert list(AuditLog(database).entries(kind="alarm-spoken")) == []


@pytest.mark.parametrize(("who", "why"), [("anna", "  "), (" ", "dry")])
def test_word__of_nobody_or_without_a_reason__refused(ledger, run, who, why):
    assert run("alarms", "approve", "1", "--who", who, "--why", why).exit_code == 2
    assert ledger.get(1).state == "open"


def test_word__with_a_wrong_passphrase__refused(ledger, refused):
    refused("alarms", "approve", "1", "--who", "anna", "--why", "x", passphrase="guessed")
    assert ledger.get(1).state == "open"


def test_silence__on_record_until_when__and_once_it_is_over_the_alarm_counts_again(ledger, database, run, monkeypatch):
    run("alarms", "silence", "1", "--for", "2h", "--who", "anna", "--why", "Monday")
    run("alarms", "approve", "2", "--who", "anna", "--why", "a new roof")
    assert run("alarms", "list", passphrase=None).exit_code == 0
    (entry,) = [one for one in AuditLog(database).entries(kind="alarm-spoken") if one.detail["word"] == "silence"]
    assert entry.detail["until"] == pytest.approx(entry.at + 7200, abs=5)
    later = entry.at + 7201
    monkeypatch.setattr(time, "time", lambda: later)
    shown = run("alarms", "list", passphrase=None)
    assert shown.exit_code == 1
    assert "silent until" not in shown.stdout


def test_word__of_two_people_one_after_the_other__the_later_one_holds_and_both_are_on_record(ledger, run):
    run("alarms", "override", "1", "--action", "tell", "--who", "anna", "--why", "dry there")
    run("alarms", "approve", "1", "--who", "ben", "--why", "no, it is stuck")
    told = json.loads(run("alarms", "show", "1", "--json", passphrase=None).stdout)
    assert (told["state"], told["by"], told["done"]) == ("approved", "ben", ["tell"])
    assert [(line["who"], line["word"]) for line in told["trail"]] == [("anna", "override"), ("ben", "approve")]


def test_override__of_an_outage__nothing_can_be_done_to_a_place(ledger, database, run, refused):
    with database.transaction():
        ledger.see(PLACE, frozenset({"outage"}), [Seen("outage", "", 0.0, 9.0, 5)], load_rules(), now=1.0)
    word = ("alarms", "override", "3", "--who", "anna", "--why", "x", "--action")
    assert "whole place" in refused(*word, "quarantine")
    assert run(*word, "tell").exit_code == 0
    assert "nobody at this place delivered for 5 hours" in run("alarms", "list", passphrase=None).stdout


def test_alarms__of_a_worker_that_is_no_processor__says_so(worker, tmp_path, refused):
    (tmp_path / "state").mkdir(exist_ok=True)
    with Database(tmp_path / "state" / "worker.db") as database:
        AuditLog(database)
    assert "no processor's folder" in refused("alarms", "list", passphrase=None)
    assert "no processor's folder" in refused("alarms", "approve", "1", "--who", "anna", "--why", "x")


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
