"""Rules from findings to actions, alarms from open to over, and the sentence each says to a person."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quietfleet.errors import MonitorError
from quietfleet.monitor.alarms import Alarm, Seen, State, sentence, sureness
from quietfleet.monitor.integrity import Finding, FindingKind
from quietfleet.monitor.rules import CAUSES, LEFT_PEERS, LONE_DRIFT, SHARED_DRIFT, Action, load_rules, read_rules
from quietfleet.storage import Database
from quietfleet.workers._alarms import KEPT, MOST_HOURLY, MOST_OPEN, Alarms

FAULTS = frozenset(map(str, FindingKind))


# rules


@pytest.mark.parametrize(
    ("cause", "actions"),
    [
        ("stuck", {Action.QUARANTINE, Action.RECALIBRATE, Action.IMPUTE}),
        ("gap", {Action.QUARANTINE, Action.RECALIBRATE, Action.IMPUTE}),
        (LEFT_PEERS, {Action.QUARANTINE, Action.RECALIBRATE, Action.IMPUTE}),
        (SHARED_DRIFT, {Action.RETRAIN}),
        (LONE_DRIFT, {Action.VERIFY}),
    ],
)
def test_rules__those_we_bring__do_what_the_paper_says(cause, actions):
    assert set(load_rules().actions(cause, "temp")) == actions


def test_rules__those_we_bring__say_something_about_everything_that_can_be_found():
    rules = load_rules()
    assert all(rules.actions(cause, "temp") for cause in CAUSES)


def test_rules__first_that_fits__decides_by_channel_count_and_time():
    rules = read_rules(
        """
        [[rule]]
        when = ["stuck"]
        channel = ["wind_speed"]
        then = ["tell"]
        [[rule]]
        when = ["stuck"]
        count = 24
        lasting = 3600.0
        then = ["quarantine"]
        """
    )
    assert rules.actions("stuck", "wind_speed", count=99, lasting=1e6) == (Action.TELL,)
    assert rules.actions("stuck", "temp", count=24, lasting=3600) == (Action.QUARANTINE,)
    assert rules.actions("stuck", "temp", count=23, lasting=3600) == rules.actions("gap") == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rule = 1", "array"),
        ("[[rule]]", "when"),
        ('[[rule]]\nwhen = ["stuk"]', "'stuk', which nothing finds"),
        ('[[rule]]\nwhen = ["stuck"]\nthen = ["dance"]', "dance"),
        ('[[rule]]\nwhen = ["stuck"]\nthan = []', "than"),
        ('[[rule]]\nwhen = ["stuck", "outage"]\nthen = ["quarantine"]', "an outage is a whole place's"),
        ("[[rule", "no TOML"),
    ],
)
def test_rules__with_a_mistake__one_sentence_says_which(text, says):
    with pytest.raises(MonitorError, match=says):
        read_rules(text)


def test_see__the_same_again__is_not_written_again(tmp_path):
    with Database(tmp_path / "worker.db") as database:
        alarms = Alarms(database)
        seen = [Seen("stuck", "temp", 0.0, 9.0, 12)]
        with database.transaction():
            alarms.see("s1", FAULTS, seen, load_rules(), now=1.0)
        before = database.execute("SELECT total_changes()").fetchone()
        with database.transaction():
            alarms.see("s1", FAULTS, seen, load_rules(), now=2.0)
        assert database.execute("SELECT total_changes()").fetchone() == before


def test_rules__file_that_is_not_there__says_so(tmp_path):
    with pytest.raises(MonitorError, match="cannot be read"):
        load_rules(tmp_path / "none.toml")


# what it says


@pytest.fixture
def alarm():
    seen = Seen.of(Finding(FindingKind.STUCK, "temp", 1_363_752_000.0, 1_363_800_000.0, 24))
    return Alarm(
        number=3, device="sensor 7", cause=seen.cause, channel="temp", since=seen.since, until=seen.until,
        raised=0.0, count=seen.count, sure=seen.sure, actions=load_rules().actions("stuck", "temp"),
    )  # fmt: skip


def test_sentence__stuck__what_since_when_how_sure_what_was_done_and_what_to_do(alarm):
    said = sentence(alarm)
    for part in (
        "temp of sensor 7",
        "24 times",
        "2013-03-20 04:00 UTC",
        "98% sure",
        "set aside",
        "recalibrate",
        "look",
    ):
        assert part in said
    assert said.count(".") == 1


@pytest.mark.parametrize("cause", sorted(CAUSES))
def test_sentence__of_any_cause__is_one(cause, alarm):
    said = sentence(Alarm(1, "d", cause, "temp", 0.0, 1.0, 0.0))
    assert "{" not in said
    assert said.endswith(".")
    assert "1970-01-01 00:00 UTC" in said


def test_sureness__more_evidence__never_less_sure():
    assert sureness("range") == sureness("duplicate") == 1.0
    assert sureness("stuck", 12) < sureness("stuck", 24) < 1.0
    assert sureness("gap", 4) < sureness("gap", 40) < 1.0
    assert sureness("spike", 1) < sureness("spike", 3)
    assert sureness(LEFT_PEERS, severity=2) > sureness(LEFT_PEERS)


def test_sureness__a_date_from_the_future_and_a_clock_that_seems_off__only_the_first_is_certain():
    assert Seen.of(Finding(FindingKind.CLOCK, "", 0.0, 1.0, 1)).sure == 1.0
    assert Seen.of(Finding(FindingKind.CLOCK, "", 0.0, 1.0, 1, "an hour late")).sure < 1.0


# a person's word


def test_approved__lone_drift__is_learned_from():
    lone = Alarm(1, "d", LONE_DRIFT, "temp", 0.0, 1.0, 0.0, actions=(Action.VERIFY,))
    assert lone.done == (Action.VERIFY,)
    assert lone.approved("anna", "a new roof").done == (Action.RETRAIN,)


def test_overridden__by_nothing__nothing_is_done(alarm):
    assert alarm.overridden((), "anna", "dry season").done == ()


def test_silenced__protective_actions_go_on(alarm):
    silent = alarm.silenced(100.0, "anna", "Monday")
    assert silent.quiet(99.0)
    assert not silent.quiet(100.0)
    assert silent.done == alarm.done


@pytest.mark.parametrize("word", [lambda a: a.approved("x", ""), lambda a: a.silenced(1.0, "x", ""), Alarm.ended])
def test_word__about_what_is_over__refused(alarm, word):
    with pytest.raises(MonitorError, match="alarm 3 is over"):
        word(alarm.ended())


# the ledger against a plain model


class Ledger(RuleBasedStateMachine):
    """One open alarm a device, cause and channel; a number is used once; what is over stays over."""

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.database = Database(Path(self.folder.name) / "alarms.db")
        self.alarms = Alarms(self.database)
        self.rules = load_rules()
        self.open = {}
        self.numbers = set()
        self.time = 0.0

    def teardown(self):
        self.database.close()
        self.folder.cleanup()

    @rule(
        device=st.sampled_from("ab"),
        found=st.frozensets(st.tuples(st.sampled_from(["stuck", "range", "gap"]), st.sampled_from(["temp", "humid"]))),
        end=st.booleans(),
    )
    def see(self, device, found, end):
        self.time += 3600
        seen = [Seen(cause, channel, self.time - 3600, self.time, 12) for cause, channel in found]
        turn = self.alarms.see(device, FAULTS, seen, self.rules, now=self.time, end=end)
        mine = {key for key in self.open if key[0] == device}
        raised = {(device, *one) for one in found} - mine
        ended = {key for key in mine if key[1:] not in found} if end else set()
        assert {(one.device, one.cause, one.channel) for one in turn.raised} == raised
        assert {(one.device, one.cause, one.channel) for one in turn.ended} == ended
        assert not {one.number for one in turn.raised} & self.numbers
        self.numbers |= {one.number for one in turn.raised}
        for key in ended:
            del self.open[key]
        self.open |= {(one.device, one.cause, one.channel): one.actions for one in turn.raised}

    @precondition(lambda self: self.open)
    @rule(data=st.data(), word=st.sampled_from(["approve", "override", "silence"]))
    def speak(self, data, word):
        key = data.draw(st.sampled_from(sorted(self.open)))
        (one,) = [a for a in self.alarms.open(key[0]) if (a.device, a.cause, a.channel) == key]
        words = {
            "approve": lambda a: a.approved("x", "y"),
            "override": lambda a: a.overridden((), "x", "y"),
            "silence": lambda a: a.silenced(self.time, "x", "y"),
        }
        changed = self.alarms.change(one.number, words[word])
        if word == "override":
            self.open[key] = ()
        assert changed.actions == self.open[key]

    @rule()
    def forget(self):
        self.alarms.forget(self.time)

    @invariant()
    def open_ones_are_those(self):
        known = {(one.device, one.cause, one.channel): one.actions for one in self.alarms.open()}
        assert known == self.open
        for device in "ab":
            assert self.alarms.actions(device) == {a for k, v in self.open.items() if k[0] == device for a in v}
        ends = [one for one in self.alarms.all() if one.state is State.ENDED]
        assert all(one.done == () for one in ends)


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


def test_see__a_device_that_makes_them_up__takes_no_more_than_its_room(tmp_path):
    with Database(tmp_path / "alarms.db") as database:
        alarms = Alarms(database)
        found = [Seen("stuck", f"c{n}", 0.0, 1.0) for n in range(MOST_OPEN + 9)]
        turn = alarms.see("a", FAULTS, found, load_rules(), now=0.0)
        assert (len(turn.raised), turn.dropped) == (MOST_OPEN, 9)
        assert alarms.see("b", FAULTS, found[:1], load_rules(), now=0.0).raised


def test_see__one_that_flaps__raises_so_many_an_hour_and_no_more(tmp_path):
    with Database(tmp_path / "alarms.db") as database:
        alarms, rules, raised = Alarms(database), load_rules(), 0
        for minute in range(59):
            for found in ([Seen("stuck", "temp", 0.0, 1.0), Seen("range", "temp", 0.0, 1.0)], []):
                raised += len(alarms.see("a", FAULTS, found, rules, now=60.0 * minute).raised)
        assert raised == MOST_HOURLY
        assert alarms.see("a", FAULTS, [Seen("stuck", "temp", 0.0, 1.0)], rules, now=7300.0).raised


def test_forget__long_over__erased_and_what_is_open_is_not(tmp_path):
    with Database(tmp_path / "alarms.db") as database:
        alarms, rules = Alarms(database), load_rules()
        alarms.see("a", FAULTS, [Seen("stuck", "temp", 0.0, 1.0)], rules, now=0.0)
        alarms.see("a", FAULTS, [Seen("range", "temp", 0.0, 1.0)], rules, now=0.0)
        assert alarms.forget(KEPT) == 0
        assert alarms.forget(KEPT + 2) == 1
        assert [one.cause for one in alarms.all()] == ["range"]
