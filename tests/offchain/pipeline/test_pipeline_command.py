import csv
import errno
import json
import os
from datetime import datetime
from itertools import count
from zoneinfo import ZoneInfo

import duckdb
import pytest
from click.testing import CliRunner
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from quietfleet.cli import main
from quietfleet.errors import Cancelled, DataRejected, DiskFull, ProjectError
from quietfleet.pipeline.ingest import ingest
from quietfleet.pipeline.lineage import Trace, rebuild, trace
from quietfleet.pipeline.names import Names
from quietfleet.pipeline.project import find_project, load_project
from quietfleet.pipeline.run import learn
from quietfleet.pipeline.run_folder import RunFolder
from quietfleet.pipeline.tables import read_table
from quietfleet.pipeline.train import folds, samples, train

STATIONS = ("EWR", "JFK", "LGA")
NAMES = ("temp", "dewp", "humid", "wind_speed")


@pytest.fixture
def table(tmp_path, readings):
    """Write January as CSV, its times as `written`."""

    def write(written=str, name="month.csv"):
        path = tmp_path / name
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("device", "time", *NAMES))
            for device, time, values in reversed(readings((1, 1), (2, 1))):
                writer.writerow((device, written(time), *(values.get(name, "") for name in NAMES)))
        return path

    return write


def zeros(size):
    return bytes(size)


def utc(time, zone="UTC", form="%Y-%m-%d %H:%M:%S"):
    return datetime.fromtimestamp(time, ZoneInfo(zone)).strftime(form)


@pytest.mark.parametrize(
    ("written", "zone"),
    [
        (str, None),
        (lambda time: utc(time, "Asia/Tokyo", "%Y-%m-%d %H:%M:%S%z"), None),
        (utc, "UTC"),
        (lambda time: utc(time, "America/New_York"), "America/New_York"),
    ],
)
def test_read__times_however_written_and_unsorted__are_the_same_dataset(table, january, forecast, written, zone):
    assert ingest(read_table(table(written), forecast, timezone=zone), forecast).id == january.id


def test_read__parquet_with_other_names__is_the_same_dataset(table, tmp_path, january, forecast):
    path = tmp_path / "month.parquet"
    source = "SELECT device AS station, time AS at, * EXCLUDE (device, time) FROM read_csv(?)"
    duckdb.sql(source, params=[str(table())]).write_parquet(str(path))
    with pytest.raises(DataRejected, match="no column time"):
        read_table(path, forecast)
    assert ingest(read_table(path, forecast, columns={"device": "station", "time": "at"}), forecast).id == january.id


@pytest.mark.parametrize(
    ("written", "zone", "sentence"),
    [
        (utc, None, "say no time zone"),
        (utc, "Mars/Olympus", "no time zone"),
        (lambda time: int(time * 1000), None, "milliseconds"),
        (lambda _time: "soon", None, "holds no times"),
    ],
)
def test_read__times_that_cannot_be_understood__are_refused_with_a_sentence(table, forecast, written, zone, sentence):
    with pytest.raises(DataRejected, match=sentence):
        read_table(table(written), forecast, timezone=zone)


def test_virtual_sensor__one_device_only__is_refused_with_a_sentence(readings, virtual_sensor):
    alone = [row for row in readings((1, 1), (2, 1)) if row[0] == "EWR"]
    with pytest.raises(DataRejected, match="neighbour"):
        samples(ingest(alone, virtual_sensor), virtual_sensor.features)


@pytest.mark.parametrize("name", ["forecast", "virtual_sensor"])
def test_search__same_folds_and_seed__chooses_as_scikit_learn(january, request, name):
    project = request.getfixturevalue(name)
    learning = samples(january, project.features)
    found = train(learning, project, seed=4)
    judged = {"scoring": "neg_root_mean_squared_error", "cv": folds(learning.times, project)}
    if name == "forecast":
        search = GridSearchCV(project.model, dict(project.search.parameters), **judged)
    else:
        drawn, tries = dict(project.search.parameters), project.search.tries
        search = RandomizedSearchCV(project.model, drawn, n_iter=tries, random_state=4, **judged)
    search.fit(learning.rows, learning.targets)
    assert found.parameters == search.best_params_
    assert found.search_rmse == pytest.approx(-search.best_score_, rel=1e-6)


def test_run__stopped_between_fits__goes_on_and_gives_the_same_model(tmp_path, january, forecast, candidate):
    folder, asked = RunFolder(tmp_path / "run", forecast, january, 1, random=zeros), count()
    with pytest.raises(Cancelled, match="after 7 of 15"):
        learn(january, forecast, seed=1, now=1.0, stopped=lambda: next(asked) == 7, memory=folder)
    kept = list((tmp_path / "run/fits").iterdir())
    assert len(kept) == 7
    kept[0].write_bytes(b"{")  # cut off: made again
    again = RunFolder(tmp_path / "run", forecast, january, 1, random=zeros)
    fits = []
    keep, again.keep = again.keep, lambda *fit: (fits.append(fit), keep(*fit))
    assert learn(january, forecast, seed=1, now=1.0, memory=again).artifact == candidate.artifact
    assert len(fits) == 9


def test_run_folder__disk_is_full__leaves_nothing_half_done(tmp_path, january, forecast, candidate, monkeypatch):
    folder = RunFolder(tmp_path / "run", forecast, january, 1, random=zeros)
    calls, real = count(), os.fsync

    def full(file):
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, "no room")
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull):
        folder.finish(candidate)
    assert folder.finished is None
    assert folder.finish(candidate) == folder.finished


def test_run_folder__somebody_elses__is_left_alone(tmp_path, january, forecast):
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(ProjectError, match="something else"):
        RunFolder(tmp_path, forecast, january, 1, random=zeros)


def test_rebuild__rows_are_still_kept_among_newer_ones__is_the_same_dataset(readings, january, forecast):
    kept = Trace.from_plain(json.loads(json.dumps(trace(january, os.urandom).to_plain())))
    assert rebuild(kept, readings((1, 1), (3, 1)), forecast).id == january.id


def test_rebuild__days_were_erased__says_how_many_rows_are_gone(readings, january, forecast):
    kept = trace(january, os.urandom)
    with pytest.raises(DataRejected, match=r"rows of dataset .* are gone"):
        rebuild(kept, readings((1, 10), (2, 1)), forecast)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\nproject = (", "line 2"),
        ("\n\nimport nothing_like_it", "line 3: ModuleNotFoundError"),
        ("x = 1", "sets no"),
    ],
)
def test_load__file_is_wrong__names_the_line(tmp_path, text, sentence):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ProjectError, match=sentence):
        load_project(path)


def test_command__run_twice_and_rebuilt__has_one_result(table, tmp_path):
    arguments = ["pipeline", "run", "forecast", "--data", str(table()), "--out", str(tmp_path / "run"), "--json"]
    first, second = (CliRunner().invoke(main, arguments, catch_exceptions=False) for _ in range(2))
    report = json.loads(first.stdout)
    assert report == json.loads(second.stdout)
    assert report["metrics"]["skill"] > 0.1
    arguments = ["pipeline", "rebuild", str(tmp_path / "run"), "forecast", "--data", str(table())]
    assert report["dataset"] in CliRunner().invoke(main, arguments, catch_exceptions=False).stdout


@pytest.fixture
def run(table, tmp_path):
    """Runs a quick project over January, every device with a model of its own to win."""
    project = tmp_path / "quick.py"
    source = find_project("forecast").read_text().replace("(0.01, 0.1, 1.0, 10.0, 100.0)", "(1.0,)")
    project.write_text(source)
    data = str(table())

    def run(out, *more, command="run"):
        words = ["pipeline", command, *([str(out), str(project)] if command == "rebuild" else [str(project)])]
        words += [] if command == "rebuild" else ["--out", str(out), "--json"]
        return CliRunner(mix_stderr=False).invoke(main, [*words, "--data", data, *more])

    return run


def written(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_command__names_in_a_file__stand_in_nothing_that_a_run_writes(run, tmp_path):
    assert run(tmp_path / "run").exit_code == 0
    assert not [name for name in STATIONS if name.encode() in written(tmp_path / "run")]
    assert (tmp_path / "run/names.key").stat().st_mode & 0o777 == 0o600
    words = ["pipeline", "names", str(tmp_path / "run"), *STATIONS]
    looked_up = [line.split()[1] for line in CliRunner().invoke(main, words).stdout.splitlines()]
    assert all(name.encode() in written(tmp_path / "run/model") for name in looked_up)
    assert run(tmp_path / "run", command="rebuild").exit_code == 0


def test_command__two_runs_of_one_file__share_no_name(run, tmp_path):
    for out in ("one", "other"):
        assert run(tmp_path / out).exit_code == 0
    one, other = (Names.of(tmp_path / out) for out in ("one", "other"))
    assert one.pseudonym("EWR") != other.pseudonym("EWR")
    assert one.pseudonym("EWR").encode() not in written(tmp_path / "other")


def test_command__own_names_asked_for__are_kept_and_not_mixed_with_pseudonyms(run, tmp_path):
    assert run(tmp_path / "run", "--own-names").exit_code == 0
    assert b"EWR" in written(tmp_path / "run/model")
    assert run(tmp_path / "run", command="rebuild").exit_code == 0
    refused = run(tmp_path / "run")
    assert (refused.exit_code, "add --own-names" in refused.stderr) == (1, True)
    assert run(tmp_path / "veiled").exit_code == 0
    refused = run(tmp_path / "veiled", "--own-names")
    assert (refused.exit_code, "leave --own-names out" in refused.stderr) == (1, True)


def test_command__key_of_the_names_is_damaged__says_so(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/names.key").write_bytes(b"short")
    refused = run(tmp_path / "run")
    assert (refused.exit_code, "is damaged" in refused.stderr) == (1, True)


def test_command__check__says_what_it_would_do():
    told = json.loads(CliRunner().invoke(main, ["pipeline", "check", "virtual_sensor", "--json"]).stdout)
    assert (told["name"], told["candidates"]) == ("virtual-sensor", 12)
