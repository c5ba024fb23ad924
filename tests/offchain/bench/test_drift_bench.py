"""The bench of drift, at its smallest: what it counts is what it says."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # the bench is a folder of the repository, not of the package

from bench.drift import faults, field, ours, speed, standins
from bench.drift.scoring import NEVER, Caught, Score, score
from bench.drift.streams import DAY, FAULTS, FEATURES, REFERENCE, SOUND, spoilt, streams
from bench.drift.tables import LITERAL, OURS, Measured, missed, results

WATCHED = 20 * DAY
GOOD = Score(
    0.1, 0.05, 0.3, {kind: Caught(17.0, 0.97, 0.97) for kind in [*FAULTS, *(f"{one}, joint" for one in FAULTS)]}
)
FOUND = {
    faults.STUCK: faults.Found(11, 1.0, 0.04),
    faults.SILENCE: faults.Found(4, 1.0, 0.1),
    faults.LOSS: faults.Found(17, 1.0, 0.1),
}
TIMED = {
    "ours": speed.Timed(0.01, 1000, 1000),
    "SciPy, one by one": speed.Timed(0.6, 1000, 1000),
    "NannyML": speed.Timed(12.0, 20, 1000),
}
MEASURED = Measured(
    {OURS: GOOD, LITERAL: replace(GOOD, days=0.9)},
    FOUND,
    faults.Outage(places=3, named=3, blamed=0),
    TIMED,
    0.5,
    [standins.StoodIn("temp", {standins.HELD: 4.0, standins.USUAL: 2.0, standins.AROUND: 1.8, standins.ALL: 1.0})],
)


@pytest.fixture(scope="module")
def made():
    return streams(seed=1, stretches=1, watched=WATCHED)


def of(made, fault):
    return [stream for stream in made if stream.fault == fault]


def alarms(features=1, watched=WATCHED, at=()):
    raised = np.zeros((features, watched), dtype=bool)
    raised[:, list(at)] = True
    return raised


def test_streams__made_twice__are_the_same_and_differ_from_the_sound_ones_by_the_fault_alone(made):
    again = streams(seed=1, stretches=1, watched=WATCHED)
    for one, other in zip(made, again, strict=True):
        assert (one.onset, one.fault) == (other.onset, other.fault)
        np.testing.assert_array_equal(one.site, other.site)
    sound = of(made, SOUND)[0].site
    for stream in of(made, "shift"):
        differs = np.nan_to_num(stream.site - sound) != 0
        assert not differs[:, : stream.onset].any()
        assert not np.delete(differs, stream.device, axis=0).any()
        sigma = np.nanstd(sound[stream.device, :REFERENCE], axis=0)
        np.testing.assert_allclose(np.nanmedian(stream.values - sound[stream.device], axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(np.nanmax(stream.values - sound[stream.device], axis=0), sigma, rtol=1e-9)


def test_spoilt__gradual__ends_two_sigma_up(made):
    sound = of(made, SOUND)[0].site
    ramp = spoilt(np.pad(sound, ((0, 0), (0, 400), (0, 0)), constant_values=5.0), 0, 1, "gradual", 1)
    sigma = np.nanstd(sound[1, :REFERENCE], axis=0)
    np.testing.assert_allclose(ramp.values[-1], 5.0 + 2 * sigma)


def test_score__alarm_that_was_there_without_the_fault__has_not_noticed_it(made):
    streams_ = [*of(made, SOUND), *(stream for fault in FAULTS for stream in of(made, fault))]
    onsets = {stream.fault: stream.onset - REFERENCE for stream in streams_}
    always = [alarms(at=range(WATCHED)) for _ in streams_]
    scored = score(streams_, always)
    assert scored.days == pytest.approx(30.0)
    assert scored.raised == pytest.approx(30 / 20)
    assert scored.caught["shift"] == Caught(NEVER, 0.0, 1.0)
    assert onsets["shift"] >= 7 * DAY


def test_score__alarm_five_samples_after_each_onset__delays_of_five(made):
    raised = [alarms(at=(s.onset - REFERENCE + 4,) if s.fault in FAULTS else ()) for s in made]
    scored = score(made, raised)
    assert (scored.days, scored.season) == (0.0, 0.0)
    assert scored.caught["gradual"] == Caught(5.0, 1.0, 1.0)
    assert scored.caught["shift, joint"].delay == 5.0


def test_ours__real_streams__peers_catch_shifts_sooner_than_the_letter_of_the_rule(made):
    chosen = [*of(made, SOUND), *(stream for fault in FAULTS for stream in of(made, fault))]
    ours_, literal = score(chosen, ours.peers(chosen)), score(chosen, ours.literal(chosen))
    assert ours_.days < literal.days / 8
    assert ours_.caught["shift"].delay <= 24 < literal.caught["shift"].delay


def test_lone__one_stream__judges_every_feature_once_a_day(made):
    (raised,) = ours.lone(of(made, "shift")[:1])
    assert raised.shape == (len(FEATURES), WATCHED)
    assert not raised[:, [at for at in range(WATCHED) if at % DAY != DAY - 1]].any()


def test_delay__device_falls_silent__four_samples(made):
    readings = ours.rows(of(made, SOUND)[0].values)
    change = faults._CHANGES[faults.SILENCE]
    assert faults._delay(readings, REFERENCE + 60, faults.KINDS[faults.SILENCE], change, np.random.default_rng(1)) == 4


def test_speed__few_devices__agrees_with_scipy():
    timed, difference = speed.measure(1, None, devices=12)
    assert set(timed) == {"ours", "SciPy, one by one"}
    assert difference < 3  # percent of sigma


def test_missed__all_goals_kept__nothing():
    assert missed(MEASURED) == []


def test_missed__every_goal_missed__names_each():
    bad = replace(GOOD, days=0.5, caught=GOOD.caught | {"shift": Caught(NEVER, 0.1, 0.1)})
    found = {name: faults.Found(99, 0.5, 0.9) for name in FOUND}
    slow = TIMED | {"ours": speed.Timed(0.1, 1000, 1000)}
    said = missed(
        Measured({OURS: bad, LITERAL: GOOD}, found, faults.Outage(places=3, named=2, blamed=0), slow, 0.5, [])
    )
    assert len(said) == 5 + 6 + 1 + 3


def test_results__any__every_row_has_every_column_and_extrapolations_say_so():
    tables = results(MEASURED, field.versions())["tables"]
    for table in tables:
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
    assert tables[-1]["rows"][-1][-1] == "from 20"


def test_versions__as_pinned__name_all_peers():
    assert [said.split()[0] for said in field.versions().split(", ")] == [
        "evidently",
        "nannyml",
        "river",
        "alibi-detect",
    ]


def test_judge__not_installed__says_what_to_run(tmp_path, monkeypatch, made):
    monkeypatch.setattr(field, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="tools/drift-peers"):
        field.judge(made, tmp_path)


def test_standins__a_device_that_is_its_neighbours_but_for_a_distance__is_told_to_the_last_digit():
    dice = np.random.default_rng(2)
    middle = dice.normal(10, 3, (standins.WEEK + 2 * DAY, len(FEATURES)))
    found = standins.measure(np.stack([middle + 1.0, middle, middle - 1.0]))
    temp = next(one for one in found if one.channel == "temp")
    assert temp.errors[standins.USUAL] == pytest.approx(0.0, abs=1e-9)
    assert temp.errors[standins.ALL] == pytest.approx(0.0, abs=1e-9)
    assert temp.errors[standins.HELD] > 1.0
