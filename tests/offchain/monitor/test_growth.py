import json

import numpy as np
import pytest
from test_peer_drift import DAY, RULE, START, site

from quietfleet.monitor import PeerReference
from quietfleet.monitor.growth import MOVED, SETTLED, STEP, grow, join
from quietfleet.monitor.peers import where

RULES = {"temp": RULE}
MONTH = 40


def first_week(rows, since=0):
    begin, end = START + since * DAY, START + (since + 7) * DAY
    return PeerReference.fit({d: [row for row in r if begin <= row[0] < end] for d, r in rows.items()}, ("temp",))


def grown(reference, rows, until, since=7.0):
    """As a processor does that keeps a week."""
    while since * DAY + STEP + SETTLED <= until * DAY:
        now = START + since * DAY + STEP + SETTLED
        week = {d: [row for row in r if now - 7 * DAY <= row[0] < now] for d, r in rows.items()}
        reference, since = grow(reference, week, since=START + since * DAY, now=now, rules=RULES), since + STEP / DAY
    return reference


def moved(before, after, device="d0"):
    """How far what is usual for a device went, in units of a shift by a sigma."""
    one, other = (reference.devices[device]["temp"] for reference in (before, after))
    return (where(other.hours, other.sketch) - where(one.hours, one.sketch)) / one.unit


def test_grow__a_sound_month__knows_what_one_seen_at_once_knows():
    rows = site(MONTH)
    week = first_week(rows)
    whole = PeerReference.fit({d: r[: 30 * 24] for d, r in rows.items()}, ("temp",))
    later = grown(week, rows, MONTH)
    for device in rows:
        short, long, full = (reference.devices[device]["temp"] for reference in (week, later, whole))
        assert long.basis.days == pytest.approx(30)
        assert np.abs(np.subtract(long.hours, full.hours)).mean() < 0.05 * full.unit
        assert long.unit == pytest.approx(full.unit, rel=0.15)
        assert max(long.limits) < max(short.limits)


def test_grow__a_shift_after_a_month__is_found_sooner_than_from_the_week():
    rows = site(MONTH + 10, shift=5.0, since=MONTH + 1)
    week = first_week(rows)
    later = grown(week, rows, MONTH)
    found = later.drift(rows, now=START + (MONTH + 2) * DAY)["d0"]["temp"]
    assert found.exceeded
    assert found.severity > week.drift(rows, now=START + (MONTH + 2) * DAY)["d0"]["temp"].severity


def test_grow__a_device_accused_since__is_not_learned_from():
    rows = site(MONTH, devices=4, shift=9.0, since=10)
    week = first_week(rows)
    later = grown(week, rows, MONTH)
    assert later.devices["d0"] == week.devices["d0"]
    assert later.devices["d1"].keys() == {"temp"}
    assert later.devices["d1"] != week.devices["d1"]


def test_grow__a_fault_that_shows_only_afterwards__spoils_nothing():
    rows = site(MONTH, devices=4, shift=9.0, since=11)
    week = first_week(rows)
    before = {d: [row for row in r if row[0] < START + 13 * DAY] for d, r in rows.items()}
    later = grow(week, before, since=START + 7 * DAY, now=START + 13 * DAY, rules=RULES)
    assert later.devices["d0"] == week.devices["d0"], "its first three days were sound, but who knows"


@pytest.mark.parametrize("slope", [0.1, 0.2])
def test_attack__drift_too_slow_for_any_window__trains_itself_in_no_further_than_half_a_drift(slope):
    rows = site(120, devices=5, seed=2)
    rows["d0"] = [(at, {"temp": v["temp"] + slope * max(0.0, (at - START) / DAY - 7)}) for at, v in rows["d0"]]
    week = first_week(rows)
    later = grown(week, rows, 118)
    assert moved(week, later) <= MOVED + 1e-6
    assert max(abs(moved(week, later, device)) for device in rows) <= MOVED + 1e-6
    assert later.drift(rows, now=START + 119 * DAY)["d0"]["temp"].exceeded


def test_attack__a_device_that_scatters_ever_more__widens_its_own_limits_by_a_quarter_at_most():
    rows = site(60, devices=5, seed=3)
    random = np.random.default_rng(4)
    rows["d0"] = [
        (at, {"temp": v["temp"] + float(random.normal(0, max(0.0, (at - START) / DAY - 7) / 15))})
        for at, v in rows["d0"]
    ]
    week = first_week(rows)
    one, other = (reference.devices["d0"]["temp"] for reference in (week, grown(week, rows, 58)))
    assert all(new <= 1.25 * old + 1e-6 for new, old in zip(other.limits, one.limits, strict=True))
    assert other.unit <= 2 * one.unit


def test_grow__half_of_the_site_is_missing__stays_as_it_was():
    rows = site(MONTH)
    week = first_week(rows)
    del rows["d2"]
    assert grown(week, rows, 20) == week


def test_grow__a_channel_with_hardly_a_reading__stays_as_it_was():
    rows = site(MONTH)
    week = first_week(rows)
    thin = {d: [row for n, row in enumerate(r) if row[0] < START + 7 * DAY or n % 5 == 0] for d, r in rows.items()}
    assert grown(week, thin, 14) == week


def test_join__a_newcomer__is_told_from_where_the_middle_was():
    rows = site(MONTH, devices=4)
    old = first_week({d: r for d, r in rows.items() if d != "d3"})
    both = join(old, first_week(rows, since=10))
    assert {d: both.devices[d] for d in old.devices} == dict(old.devices)
    found = both.drift(rows, now=START + 30 * DAY)
    assert set(found) == set(rows)
    assert not any(one["temp"].exceeded for one in found.values())


def test_grown__through_json__is_the_same():
    rows = site(MONTH)
    later = grown(first_week(rows), rows, 20)
    assert PeerReference.from_plain(json.loads(json.dumps(later.to_plain()))) == later
