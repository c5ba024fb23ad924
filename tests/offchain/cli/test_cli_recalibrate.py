"""`quietfleet recalibrate …` beside a processor that has its database open."""

from __future__ import annotations

import json

import pytest

from quietfleet.errors import SettingsError
from quietfleet.monitor.recalibration import Affine, Did, Recalibration
from quietfleet.settings import RecalibrationSection, load_settings
from quietfleet.storage import AuditLog, Database
from quietfleet.workers._devices import Devices
from quietfleet.workers._recalibrations import Recalibrated

SENSOR = "0x52908400098527886E0F7030069857D2E4169EE7"


@pytest.fixture
def ledger(worker, tmp_path):
    assert worker
    with Database(tmp_path / "state" / "worker.db") as database:
        AuditLog(database)
        Devices(database, bytes(32)).opened(SENSOR, "deal:1")
        yield Recalibrated(database)


def test_recalibrate__beside_the_processor__waits_there_and_is_on_record(ledger, run):
    made = run("recalibrate", SENSOR.lower(), "--channel", "temp", "--who", "anna", "--why", "moved", "--json")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout) == {"requested": [SENSOR], "channels": ["temp"], "relearn": False}
    assert [request[1:] for request in ledger.requests()] == [(SENSOR, ["temp"], "moved", False)]
    (entry,) = AuditLog(ledger._database).entries(kind="recalibration-requested")
    assert entry.detail == {"sensor": SENSOR, "channels": ["temp"], "who": "anna", "why": "moved", "relearn": False}


def test_recalibrate__no_sensor_of_this_processor__one_sentence_and_nothing_waits(ledger, refused):
    assert "no session" in refused("recalibrate", SENSOR, "0x" + "11" * 20)
    assert ledger.requests() == []


def test_recalibrate__nobody_named__usage(ledger, run):
    assert ledger
    assert run("recalibrate").exit_code == 2


def test_recalibrate__without_the_passphrase__refused(ledger, refused):
    assert refused("recalibrate", SENSOR, passphrase="wrong")
    assert ledger.requests() == []


def test_recalibrate__another_workers_folder__one_sentence(worker, refused, tmp_path):
    assert worker
    with Database(tmp_path / "state" / "worker.db") as database:
        AuditLog(database)
    assert "no processor" in refused("recalibrate", SENSOR)
    assert "no processor" in refused("recalibrate", "--list")


def test_list__what_was_asked_and_answered__as_lines_and_as_json(ledger, run, device):
    assert "nobody" in run("recalibrate", "--list", passphrase=None).stdout
    ledger.ask(SENSOR, bytes(16), "temp left its peers", now=1.0, proposed={"temp": Affine(-4.0, 1.0)}, withheld={})
    result = Recalibration(bytes(16), Did.CORRECTED, 5.0, {"temp": Affine(-4.0, 1.0)}, {"humid": "too soon"})
    ledger.answered(ledger.open(SENSOR), result.signed(device), 5.0)
    ledger.ask(SENSOR, b"\1" * 16, "schedule", now=2.0, proposed={}, withheld={"temp": "nothing to correct"})
    shown = run("recalibrate", "--list", passphrase=None).stdout
    assert "corrected" in shown
    assert "temp -4.00, times 1.000" in shown
    assert "temp: nothing to correct" in shown
    first, second = json.loads(run("recalibrate", "--list", SENSOR, "--json", passphrase=None).stdout)
    assert (first["state"], first["in_force"], first["since"]) == ("corrected", {"temp": [-4.0, 1.0]}, 5.0)
    assert (second["state"], second["signature"]) == ("waiting", None)
    assert json.loads(run("recalibrate", "--list", "0x" + "11" * 20, "--json", passphrase=None).stdout) == []


@pytest.mark.parametrize(
    ("every", "days"), [("7d", [7]), (["1d", "7d", "30d"], [1, 7, 30]), ("", []), ("12h", [0.5]), ("2w", [14])]
)
def test_every__a_time_or_ages__in_seconds(every, days):
    assert RecalibrationSection(every=every).ages == [day * 86_400 for day in days]


@pytest.mark.parametrize("every", ["often", "0d", "7", ["7d", "1d"], ["1d", "1d"]])
def test_every__nothing_of_the_kind__refused(every):
    with pytest.raises(SettingsError, match="every"):
        assert RecalibrationSection(every=every).ages


def test_settings__limits_of_a_channel__read_from_their_tables(worker, tmp_path):
    assert worker
    file = tmp_path / "worker.toml"
    tables = "[sensor.calibration.co2]\noffset = 50\n[processor.recalibration]\nevery = ['1d', '7d']\n"
    file.write_text(file.read_text() + tables + "[processor.recalibration.limits.temp]\noffset = 2\ngain = 0.05\n")
    chosen = load_settings(file, {})
    assert chosen.sensor.calibration["co2"].offset == 50
    assert chosen.processor.recalibration.limits["temp"].gain == 0.05
    assert chosen.processor.recalibration.ages == [86_400, 7 * 86_400]
