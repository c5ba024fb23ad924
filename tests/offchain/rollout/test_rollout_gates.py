from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.rollout import Counts, Gate, Verdict, judge

GATE = Gate(success=0.8, failure=0.2, reports=5, soak=100, deadline=300, margin=0.05, lost=0.1)
SOAKED, LATE = 150.0, 300.0


def verdict(counts, now=SOAKED, gate=GATE):
    return judge(gate, counts, now=now, since=0.0)


def test_judge__all_conditions_met__opens():
    assert verdict(Counts(10, 8, 1)) == (Verdict.OPEN, "met")


@pytest.mark.parametrize(
    ("counts", "now", "expected"),
    [
        (Counts(10, 8, 0), 99.9, (Verdict.WAIT, "soak")),
        (Counts(10, 4, 0), SOAKED, (Verdict.WAIT, "reports")),
        (Counts(10, 7, 0), SOAKED, (Verdict.WAIT, "success")),
        (Counts(0, 0, 0), SOAKED, (Verdict.WAIT, "nobody")),
        (Counts(0, 0, 0), LATE, (Verdict.WAIT, "nobody")),
        (Counts(0, 0, 0, planned=1), LATE, (Verdict.PAUSE, "nobody")),
        (Counts(10, 7, 0), LATE, (Verdict.PAUSE, "silent")),
        (Counts(10, 8, 0), LATE, (Verdict.OPEN, "met")),
        (Counts(10, 7, 3), SOAKED, (Verdict.ROLL_BACK, "failures")),
        (Counts(10, 8, 0, ratios=(1.2, 1.2, 1.0)), SOAKED, (Verdict.ROLL_BACK, "shadow")),
        (Counts(10, 8, 0, rises=(0.5, 0.3, 0.0)), SOAKED, (Verdict.ROLL_BACK, "lost samples")),
    ],
)
def test_judge__each_condition__has_its_word(counts, now, expected):
    assert verdict(counts, now) == expected


@pytest.mark.parametrize("now", [0.0, SOAKED, LATE])
def test_judge__errors__are_looked_at_before_successes_and_before_any_waiting(now):
    assert verdict(Counts(10, 7, 3), now)[0] is Verdict.ROLL_BACK
    assert verdict(Counts(10, 0, 3), now)[0] is Verdict.ROLL_BACK


def test_judge__everybody_answered_and_success_was_missed__never_opens():
    gate = msgspec.structs.replace(GATE, failure=1.0, success=0.9)
    assert verdict(Counts(10, 8, 2), gate=gate) == (Verdict.PAUSE, "success")
    assert verdict(Counts(10, 0, 10), gate=msgspec.structs.replace(gate, success=0.0)) == (Verdict.PAUSE, "success")


def test_judge__a_silent_device__counts_to_the_failures_once_its_time_is_over():
    counts = Counts(10, 7, 1)
    assert verdict(counts, LATE - 1)[0] is Verdict.WAIT
    assert verdict(counts, LATE) == (Verdict.PAUSE, "silent")


def test_judge__few_are_offline__are_not_waited_for_beyond_the_deadline():
    gate = msgspec.structs.replace(GATE, success=0.8, failure=0.2)
    assert verdict(Counts(10, 8, 0), LATE, gate)[0] is Verdict.OPEN


def test_judge__less_reports_than_wanted_from_a_small_wave__all_of_it_is_enough():
    assert verdict(Counts(2, 2, 0))[0] is Verdict.OPEN


def test_judge__less_than_half_lie_about_figures__changes_nothing():
    lies = (1000.0, 1000.0)
    assert verdict(Counts(10, 8, 0, ratios=(*lies, 1.0, 1.0, 1.0)))[0] is Verdict.OPEN
    assert verdict(Counts(10, 8, 0, rises=(*lies, 0.0, 0.0, 0.0)))[0] is Verdict.OPEN


def test_judge__every_small_fleet_exhaustively__opens_only_where_all_conditions_hold():
    for total, ok, failed in itertools.product(range(1, 8), range(8), range(8)):
        if ok + failed > total:
            continue
        for now, late in itertools.product((0.0, SOAKED, LATE), (False,)):
            late = now >= LATE  # noqa: PLW2901 - derived
            silent = total - ok - failed
            said, _ = verdict(Counts(total, ok, failed), now)
            holds = (
                ok >= 0.8 * total
                and failed + (silent if late else 0) <= 0.2 * total
                and ok + failed >= min(5, total)
                and now >= 100
            )
            assert (said is Verdict.OPEN) == holds
            assert (said is Verdict.ROLL_BACK) == (failed > 0.2 * total)
            assert (said is Verdict.PAUSE) <= late | (silent == 0)


@given(st.integers(1, 200), st.integers(0, 200), st.integers(0, 200), st.floats(0, 1000))
def test_judge__another_failure__never_makes_it_better(total, ok, failed, now):
    order = [Verdict.OPEN, Verdict.WAIT, Verdict.PAUSE, Verdict.ROLL_BACK]
    if ok + failed + 1 > total:
        return
    before, _ = verdict(Counts(total, ok, failed), now)
    after, _ = verdict(Counts(total, max(0, ok - 1), failed + 1), now)
    assert order.index(after) >= order.index(before) or after is Verdict.WAIT


def test_hash__any_field_changed__is_another():
    hashes = {GATE.hash}
    for name in Gate.__struct_fields__:
        hashes.add(msgspec.structs.replace(GATE, **{name: getattr(GATE, name) / 2 + 1}).hash)
    assert len(hashes) == 1 + len(Gate.__struct_fields__)
