"""Recordings the monitors were not settled on, at their smallest: how they are read, and what is counted."""

import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # the bench is a folder of the repository, not of the package

from bench.drift import elsewhere, tables, unseen
from bench.drift.elsewhere import DAY, Recording

HOURS = 67 * 24


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(elsewhere, "FOLDER", tmp_path)
    return tmp_path


def recording(devices=4):
    """Temperatures and vanes of one place, a fixed distance apart."""
    random = np.random.default_rng(7)
    hours = np.arange(HOURS)
    sky = 10 + 5 * np.sin(hours * 2 * np.pi / 24) + np.cumsum(random.normal(0, 0.3, HOURS))
    wind = np.cumsum(random.normal(0, 20, HOURS))
    values = np.stack(
        [
            np.stack(
                [sky + line + random.normal(0, 0.5, HOURS), (wind + 5 * line + random.normal(0, 4, HOURS)) % 360], 1
            )
            for line in range(devices)
        ]
    )
    names = tuple(f"d{line}" for line in range(devices))
    return Recording("made up", names, ("warmth", "direction"), 3600.0, 0.0, values, angles=("direction",))


def test_measure__sound_devices_a_distance_apart__raises_nothing_and_finds_every_fault():
    found = unseen.measure(recording(), seed=1)
    assert found.channels["warmth"].months == pytest.approx(4.0)
    assert [told.false for told in found.channels.values()] == [0.0, 0.0]
    assert [told.caught("shift") for told in found.channels.values()] == [1.0, 1.0]
    assert found.channels["warmth"].delay("shift") < 24
    assert np.isnan(found.channels["direction"].caught("scale"))  # a vane is not doubled
    assert found.integrity[unseen.STUCK].delay(unseen.STUCK) == 12
    assert found.integrity[unseen.SILENCE].delay(unseen.SILENCE) == 4
    assert found.integrity[unseen.LOSS].caught(unseen.LOSS) == 1.0
    assert [told.days for told in found.integrity.values()] == [0, 0, 0]


def test_measure__one_device_changed_for_good__its_days_are_counted():
    sound = recording()
    values = sound.values.copy()
    values[0, 40 * 24 :, 0] += 30
    told = unseen.measure(replace(sound, values=values), seed=1).channels["warmth"]
    assert told.days == 20  # of the thirty that are counted, from the eleventh on
    assert told.false == pytest.approx(20 / told.months)


def test_measure__a_device_that_is_dead_already__is_given_no_fault():
    sound = recording()
    values = sound.values.copy()
    values[0, :, 0] = 3.0
    told = unseen.measure(replace(sound, values=values), seed=1).channels
    assert (len(told["warmth"].delays["shift"]), len(told["direction"].delays["shift"])) == (3, 4)


def test_measure__two_devices__has_nothing_to_compare():
    found = unseen.measure(recording(devices=2), seed=1)
    assert found.channels["warmth"].months == 0
    assert found.integrity[unseen.STUCK].caught(unseen.STUCK) == 1.0


def test_tables__whatever_was_measured__every_row_has_every_column():
    found = [unseen.measure(recording(), seed=1)]
    for table in tables.out_of_sample(found):
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
    assert tables.out_of_sample([]) == []


def test_recordings__not_installed__says_what_to_run(folder):
    with pytest.raises(SystemExit, match="tools/drift-peers"):
        elsewhere.recordings()


def test_turbines__with_a_zone_and_a_gap__are_put_on_a_grid_of_ten_minutes(folder):
    head = "Wind_turbine_name,Date_time,Ba_avg,P_avg,Ws_avg,Va_avg,Ot_avg,Ya_avg,Wa_avg"
    lines = ["b,2014-01-01T01:00:00+01:00,-1.0,5,7,0,4.5,1,2", "a,2014-01-01T01:20:00+01:00,-1.0,6,7,0,,1,3"]
    with zipfile.ZipFile(folder / "la_haute_borne.zip", "w") as packed:
        packed.writestr("la-haute-borne-data-2014-2015.csv", "\n".join([head, *lines]))
    found = elsewhere.turbines()
    assert (found.devices, found.period, found.values.shape) == (("a", "b"), 600.0, (2, 3, 5))
    assert found.since % DAY == 0
    assert found.values[1, 0].tolist() == [5.0, 7.0, 4.5, -1.0, 2.0]
    assert np.isnan(found.values[0, 0]).all()
    assert np.isnan(found.values[0, 2, found.channels.index("temperature")])
    assert found.angles == ("wind direction",)


def test_counters__years_asked_for__are_read_hour_by_hour(folder):
    lines = ["date,hour,year,Here,There", "2022-12-31,23:00-23:59,2022,1,1", "2023-01-01,6:00-6:59,2023,4.0,"]
    (folder / "hourly_counts.csv").write_text("\n".join(lines))
    found = elsewhere.counters()
    assert found.values.shape == (2, 7, 1)
    assert found.values[0, 6, 0] == 4.0
    assert np.isnan(found.values[1]).all()
