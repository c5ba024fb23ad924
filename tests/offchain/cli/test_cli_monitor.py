"""`quietfleet monitor run`: a person's own file, understood, watched, and told about."""

from __future__ import annotations

import csv
import json

import pytest

from quietfleet.testbed.weather import load_weather

HOUR = 3600.0
DAYS = 40


@pytest.fixture
def file(tmp_path):
    """Forty days of three stations' temperatures; one of them reads °F from the thirty-fifth on, if that is asked."""

    def file(*, broken):
        path = tmp_path / "mine.csv"
        with path.open("w", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(("station", "time", "temp"))
            for name, rows in load_weather().items():
                first = rows[0][0]
                for at, values in rows:
                    if at >= first + DAYS * 24 * HOUR or "temp" not in values:
                        continue
                    fahrenheit = broken and name == "JFK" and at >= first + 35 * 24 * HOUR
                    writer.writerow((name, int(at), 1.8 * values["temp"] + 32 if fahrenheit else values["temp"]))
        return path

    return file


def test_run__a_sensor_changes_its_unit__names_it_and_leaves_with_3(run, file, tmp_path):
    page = tmp_path / "page.html"
    result = run("monitor", "run", str(file(broken=True)), "--report", str(page), "--json")
    assert result.exit_code == 3, result.stderr
    told = json.loads(result.stdout)
    assert (told["columns"]["time"], told["columns"]["device"]) == ("time", "station")
    assert told["columns"]["channels"] == ["temp"]
    assert told["devices"]["JFK"] == "quarantine"
    assert any("°F instead of °C" in one["told"] for one in told["episodes"])
    text = page.read_text()
    assert "°F instead of °C" in text
    assert "<script" not in text
    assert "http://" not in text
    assert "https://" not in text


def test_run__nothing_is_wrong__says_how_the_columns_were_understood(run, file):
    result = run("monitor", "run", str(file(broken=False)))
    assert result.exit_code in (0, 3), result.stderr
    assert "time: time; device: station; channels: temp" in result.stdout
    assert "held against each other" in result.stdout


def test_run__file_that_cannot_be_read__one_sentence(run, tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    result = run("monitor", "run", str(tmp_path / "x.csv"))
    assert result.exit_code == 1
    assert "no column holds times" in result.stderr


def test_run__devices_tell_of_themselves__their_health_is_said_in_text_json_and_page(run, tmp_path):
    file, page = tmp_path / "fleet.csv", tmp_path / "fleet.html"
    with file.open("w") as out:
        out.write("device,time,temp,battery,cpu_usage\n")
        for hour in range(24 * 20):
            for device in ("a", "b"):
                left = 90 - 0.18 * hour if device == "a" else 80
                temp = 15 + hour % 24 / 4 + hour % 7 / 10
                out.write(f"{device},{1.7e9 + 3600 * hour},{temp:.2f},{left:.2f},{20 + hour % 5}\n")
    done = run("monitor", "run", str(file), "--report", str(page), "--json")
    told = json.loads(done.stdout)["health"]
    assert told["b"]["score"] == 100.0
    assert told["a"]["score"] < 100
    assert [one["what"] for one in told["a"]["longevity"]] == ["battery"]
    assert "its battery lasts" in page.read_text()
    plain = run("monitor", "run", str(file))
    assert "a: health" in plain.stdout


def test_run__columns_are_devices__as_is_said(run, tmp_path):
    path = tmp_path / "mine.csv"
    lines = [f"{1_700_000_000 + 3600 * hour},{hour % 7},{hour % 7 + 1},{hour % 7 - 1}" for hour in range(24 * 35)]
    path.write_text("\n".join(["ts,north,south,roof", *lines]))
    result = run("monitor", "run", str(path), "--wide", "--json")
    said = json.loads(result.stdout)
    assert (said["columns"]["wide"], sorted(said["devices"]), said["peers"]) == (True, ["north", "roof", "south"], True)
    assert "device: by column" in run("monitor", "run", str(path), "--wide").stdout
