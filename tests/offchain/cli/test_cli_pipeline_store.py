"""`quietfleet pipeline … --store`: an engineer trains on what a gateway keeps, and can no longer once it is erased."""

from __future__ import annotations

import json

import pytest

from quietfleet.clock import SystemClock
from quietfleet.settings import load_settings
from quietfleet.storage import AuditLog, Database
from quietfleet.testbed.weather import load_weather
from quietfleet.workers._month import open_lake
from quietfleet.workers._state import State
from quietfleet.workers._veil import Veil, forget_device

DAY = 86_400
DAYS = 8
ASKED = {"who": "gateway", "why": "upload"}


class Gateway:
    """The gateway has its database open, with a week of three stations in it as if of today."""

    def __init__(self, folder, secret):
        self.clock = SystemClock()
        settings = load_settings(folder / "worker.toml", {})
        self.database = Database(folder / "state" / "worker.db")
        self.audit, state = AuditLog(self.database), State(self.database)
        self.lake, _ = open_lake(settings, self.database, secret, trail=self.audit.append, clock=self.clock.now)
        self.veil = Veil(self.database, secret, 30 * DAY)
        for station, rows in load_weather().items():
            shift = self.clock.now() // DAY * DAY - rows[DAYS * 24][0] // DAY * DAY
            self.lake.append(station, [(at + shift, values) for at, values in rows[: DAYS * 24]], **ASKED)
            state.set(f"site:{station}", "shore" if station == "JFK" else "land")
        self.lake.flush()


@pytest.fixture
def gateway(worker, tmp_path):
    opened = Gateway(tmp_path, worker.to_bytes())
    yield opened
    opened.database.close()


@pytest.fixture
def trained(gateway, run, tmp_path):
    """A run on the gateway's store: what it printed, and its folder."""
    out = tmp_path / "run"
    words = ("--store", tmp_path / "worker.toml", "--why", "first look", "--out", out, "--json")
    result = run("pipeline", "run", "forecast", *map(str, words))
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), out


def again(run, tmp_path, out):
    return run("pipeline", "rebuild", str(out), "forecast", "--store", str(tmp_path / "worker.toml"))


def test_run__on_the_gateways_store__reads_on_record_and_leaves_the_salts_there(gateway, trained):
    told, out = trained
    assert told["lineage"]["devices"] == ["EWR", "JFK", "LGA"]
    (read,) = gateway.audit.entries(kind="data-read")
    assert (read.detail["why"], read.detail["rows"]) == ("first look", 3 * DAYS * 24)
    assert json.loads((out / "trace.json").read_bytes())["salts"] == {}


def test_rebuild__rows_are_still_in_the_store__is_the_same_dataset(trained, run, tmp_path):
    told, out = trained
    result = again(run, tmp_path, out)
    assert result.exit_code == 0, result.stderr
    assert told["dataset"] in result.stdout


def test_rebuild__a_device_was_forgotten__its_hashes_mean_nothing_any_more(gateway, trained, run, tmp_path):
    _, out = trained
    salted = [
        ("JFK", day) for day in range(int(gateway.clock.now() // DAY) - DAYS, int(gateway.clock.now() // DAY) + 1)
    ]
    assert len(gateway.lake.salts.read(salted)) >= DAYS
    forget_device(gateway.lake, gateway.veil, "JFK", now=gateway.clock.now(), who="anna", why="asked")
    assert gateway.lake.salts.read(salted) == {}
    result = again(run, tmp_path, out)
    assert result.exit_code == 1
    assert "rows of dataset" in result.stderr


def test_run__beside_a_champion__says_how_it_does_against_it(trained, run, tmp_path):
    _, out = trained
    words = ("pipeline", "run", "forecast", "--store", str(tmp_path / "worker.toml"), "--out", str(out), "--json")
    result = run(*words, "--champion", str(out / "model"))
    metrics = json.loads(result.stdout)["metrics"]
    assert (metrics["champion_rmse"], metrics["champion_skill"]) == (pytest.approx(metrics["rmse"], rel=1e-3), 0.0)
    assert "holds no model" in run(*words, "--champion", str(tmp_path)).stderr


def test_run__neither_files_nor_store__says_what_to_name(run, worker, tmp_path):
    result = run("pipeline", "run", "forecast", "--out", str(tmp_path / "run"))
    assert result.exit_code == 1
    assert "--data" in result.stderr
