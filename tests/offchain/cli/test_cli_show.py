from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

STATUS = {
    "name": "porch",
    "id": "0xAbCdEf0123456789",
    "pid": os.getpid(),
    "peers": 2,
    "block": 17,
    "configuration": 3,
    "running": True,
    "sessions": [{"peer": "0x1"}, {"peer": "0x2"}],
    "release": 5,
}


@pytest.fixture
def write_status(tmp_path):
    def write_status(folder, **values):
        place = tmp_path / folder / "state"
        place.mkdir(parents=True)
        (place / "status.json").write_text(json.dumps({**STATUS, **values}))

    return write_status


@pytest.fixture
def ended_pid():
    """The number of a process that was there and is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_status__workers_below_here__a_line_each(run, write_status):
    write_status("porch")
    write_status("relay", name="relay-1", running=False, peers=3, sessions=[], release="")
    lines = [line for line in run("status").stdout.splitlines() if "0xAbCdEf…" in line]
    assert [line.split("│")[1].strip() for line in lines] == ["porch", "relay-1"]
    assert [cell.strip() for cell in lines[0].split("│")[3:9]] == ["yes", "2", "17", "3", "2", "5"]
    assert [cell.strip() for cell in lines[1].split("│")[3:9]] == ["no", "3", "17", "3", "0", ""]


def test_status__folders_named__only_those(run, write_status):
    write_status("porch")
    write_status("attic", name="attic")
    assert [state["name"] for state in json.loads(run("status", "attic", "--json").stdout)] == ["attic"]


def test_status__json__everything_the_workers_said(run, write_status):
    write_status("porch")
    assert json.loads(run("status", "--json").stdout) == [STATUS]


def test_status__worker_was_killed__not_shown_as_running(run, write_status, ended_pid):
    write_status("porch", pid=ended_pid)
    assert json.loads(run("status", "--json").stdout)[0]["running"] is False


def test_status__nobody__says_what_to_do(refused):
    assert "name the workers' folders" in refused("status")


def test_status__nobody_as_json__an_empty_list(run):
    result = run("status", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_status__file_is_something_else__one_sentence_names_it(refused, tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    assert "status.json" in refused("status")


def test_help__teaches_the_way_into_a_fleet(run):
    said = run("--help").stdout
    steps = [said.index(step) for step in ("keygen porch.json", "consent porch.json", "ape run enrol", "sensor -s")]
    assert steps == sorted(steps)
    assert "QUIETFLEET_PASSPHRASE_FILE" in said


@pytest.mark.parametrize(
    "command",
    [
        "keygen",
        "consent",
        "prepare-epoch",
        "prepare-key",
        "status",
        "relay",
        "oracle",
        "gateway",
        "processor",
        "sensor",
    ],
)
def test_help__each_command__says_what_it_is_for(run, command):
    assert f"  {command} " in run("--help").stdout
    result = run(command, "--help")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()[2].split()) > 4


@pytest.mark.parametrize("command", ["relay", "oracle", "gateway", "processor", "sensor"])
def test_run__no_settings__one_sentence(refused, command):
    assert "worker.toml does not exist" in refused(command)


@pytest.mark.parametrize("command", ["relay", "oracle", "processor"])
def test_run__no_contracts__one_sentence(refused, worker, tmp_path, command):
    (tmp_path / "31337.json").unlink()
    assert "31337.json" in refused(command)


def test_run__sensor_without_a_recording__one_sentence(refused, worker):
    assert "[sensor] replay" in refused("sensor")


def test_run__gateway_without_publisher__one_sentence(refused, worker):
    assert "publisher.json" in refused("gateway")


def test_run__peer_is_no_address__one_sentence(refused, worker, tmp_path):
    with (tmp_path / "worker.toml").open("a") as file:
        file.write('[network]\npeers = ["nowhere"]\n')
    assert "host:port" in refused("relay")


def test_log_level__unknown__names_the_known_ones(run):
    result = run("--log-level", "loud", "status")
    assert result.exit_code == 2
    assert "'warning'" in result.stderr


REPLICAS = {
    "id": "aaaa1111",
    "members": ["aaaa1111", "bbbb2222"],
    "leads": True,
    "generation": 4,
    "peers": 7,
    "store": "in reach",
}


def test_status__replicas_of_an_oracle__who_leads_and_how_many_peers_each_has(run, write_status):
    write_status("one", name="oracle", replicas=REPLICAS)
    write_status("porch")
    (line,) = [line for line in run("status").stdout.splitlines() if "bbbb2222" in line]
    cells = [cell.strip() for cell in line.split("│")[1:-1]]
    assert cells == ["oracle", "aaaa1111", "yes", "aaaa1111 bbbb2222", "7", "in reach"]


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "worker.toml").write_text('[worker]\nname = "porch"\n[chain]\ndeployment = "chain.json"\n')


def test_healthy__wrote_its_status_just_now__zero(run, settings, write_status):
    write_status("")
    assert run("healthy").exit_code == 0
    assert run("healthy", "--ready").exit_code == 0


def test_healthy__never_wrote_any__one_and_a_sentence(run, settings):
    done = run("healthy")
    assert done.exit_code == 1
    assert "no status yet" in done.stderr


def test_healthy__was_stopped__one_and_says_so(run, settings, write_status):
    write_status("", running=False)
    done = run("healthy")
    assert done.exit_code == 1
    assert "stopped" in done.stderr


def test_healthy__stuck__one_and_for_how_long(run, settings, write_status, tmp_path):
    write_status("")
    os.utime(tmp_path / "state" / "status.json", (1, 1))
    done = run("healthy")
    assert done.exit_code == 1
    assert "no status for" in done.stderr


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"stale": True}, "newest block"),
        ({"block": None}, "newest block"),
        ({"peers": 0}, "no link"),
        ({"replicas": {**REPLICAS, "store": "The store cannot be reached"}}, "store"),
        ({"replicas": {**REPLICAS, "members": ["bbbb2222"]}}, "store"),
    ],
)
def test_ready__alive_but_cannot_work__one_and_the_reason(run, settings, write_status, values, reason):
    write_status("", **values)
    assert run("healthy").exit_code == 0
    done = run("healthy", "--ready")
    assert done.exit_code == 1
    assert reason in done.stderr
