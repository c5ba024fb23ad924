from __future__ import annotations

import csv
import json
import signal
import stat
import subprocess
import sys
from types import SimpleNamespace

import pytest

from quietfleet.chain.types import Kind
from quietfleet.crypto.keystore import load_keystore
from quietfleet.errors import TestbedError
from quietfleet.network import Enode
from quietfleet.storage import AuditLog, Database
from quietfleet.testbed.anvil import MNEMONIC, free_port, key_of, port_is_free, program
from quietfleet.testbed.faulty import Faults, StickingSource
from quietfleet.testbed.fleet import Fleet, write_history, write_readings
from quietfleet.testbed.kept import stop_kept
from quietfleet.testbed.weather import load_weather

SINCE, UNTIL = 1_357_000_000.0, 1_357_100_000.0
IDLE = "import time; print(flush=True); time.sleep(60)"


@pytest.fixture
def process():
    """Starts Python on a text that prints a line first; whatever still runs in the end is killed."""
    started = []

    def process(text, *arguments):
        command = [sys.executable, "-c", text, *arguments]
        started.append(subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE))
        with started[-1].stdout as output:
            output.readline()
        return started[-1]

    yield process
    for one in started:
        one.kill()
        one.wait()


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path, "http://127.0.0.1:1", tmp_path / "deployment.json")


def test_add__worker__private_folder_and_settings_that_load(fleet, tmp_path):
    member = fleet.add(
        "porch", Kind.SENSOR, owner=3, sensor={"send_every": 7.5}, chain={"max_age": 9.0}, network={"peers": ["a:1"]}
    )
    settings = member.settings
    assert stat.S_IMODE((tmp_path / "porch").stat().st_mode) == 0o700
    assert (settings.worker.name, settings.sensor.send_every, settings.chain.max_age) == ("porch", 7.5, 9.0)
    assert settings.chain.rpc == "http://127.0.0.1:1"
    assert settings.network.peers == ["a:1"]
    assert load_keystore(member.folder / "keystore.json", fleet.passphrase).public.id == member.id


def test_add__seeded__the_same_devices_again(tmp_path):
    ids = [
        Fleet(tmp_path / str(run), "", tmp_path / "d", random=lambda size: bytes([7]) * size)
        .add("a", Kind.RELAY, owner=0)
        .id
        for run in (1, 2)
    ]
    assert ids[0] == ids[1]


def test_add_relays__several__each_dials_another(fleet):
    enodes = [Enode.parse(url) for url in fleet.add_relays(3, owner=2)]
    assert len({enode.address for enode in enodes}) == 3
    for index, enode in enumerate(enodes):
        member = fleet.members[f"relay-{index + 1}"]
        assert enode.node_id == member.key.public.to_bytes()
        assert member.settings.network.listen == str(enode.address)
        assert member.settings.network.peers == [str(enodes[(index + 1) % 3])]


def test_add_relays__one__dials_nobody(fleet):
    fleet.add_relays(1, owner=2)
    assert fleet.members["relay-1"].settings.network.peers == []


def test_journal__worker_that_has_not_started__is_empty(fleet):
    fleet.add("porch", Kind.SENSOR, owner=3)
    assert fleet.journal("porch") == []
    assert fleet.status("porch") == {}


def test_journal__beside_a_writer__what_was_committed(fleet):
    member = fleet.add("porch", Kind.SENSOR, owner=3)
    with Database(member.folder / "state" / "worker.db") as database:
        log = AuditLog(database)
        log.append("one", {"n": 1}, 10.0)
        log.append("two", {"n": 2}, 11.0)
        assert [entry.kind for entry in fleet.journal("porch")] == ["one", "two"]
        assert [entry.detail for entry in fleet.journal("porch", "two")] == [{"n": 2}]
        assert [entry.kind for entry in fleet.journal("porch", after=1)] == ["two"]


def test_metric__by_its_line__or_nothing(fleet):
    member = fleet.add("porch", Kind.SENSOR, owner=3)
    (member.folder / "state").mkdir()
    (member.folder / "state" / "metrics.prom").write_text('# HELP a\na_total{why="x y"} 3.0\na_total{why="z"} 4.0\n')
    assert fleet.metric("porch", 'a_total{why="x y"}') == 3.0
    assert fleet.metric("porch", "b_total") == 0.0


async def test_until__worker_ends_by_itself__says_which_and_shows_its_log(fleet, process):
    member = fleet.add("porch", Kind.SENSOR, owner=3)
    (member.folder / "worker.log").write_text("last words")
    member.process, member.started = process("raise SystemExit(3)"), 1
    member.process.wait()
    with pytest.raises(TestbedError, match=r"(?s)porch ended by itself.*last words"):
        await fleet.until("never", lambda: False, 5)


async def test_until__killed_on_purpose__goes_on_waiting(fleet, process):
    member = fleet.add("porch", Kind.SENSOR, owner=3)
    member.process, member.started = process(IDLE), 1
    fleet.kill("porch")
    with pytest.raises(TestbedError, match="waited 0 s in vain: the sun"):
        await fleet.until("the sun", lambda: False, 0)


def test_stop__worker_that_does_not_listen__killed(fleet, process, monkeypatch):
    monkeypatch.setattr("quietfleet.testbed.fleet.STOP_WITHIN", 0.2)
    member = fleet.add("porch", Kind.SENSOR, owner=3)
    member.process = process(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {IDLE}")
    fleet.stop()
    assert member.process.returncode == -signal.SIGKILL


def test_stop_kept__number_used_again_by_somebody_else__left_alone(tmp_path, process):
    other = process(IDLE)
    (tmp_path / "kept.json").write_text(json.dumps({"processes": [other.pid]}))
    assert stop_kept(tmp_path) is True
    assert other.poll() is None
    assert not (tmp_path / "kept.json").exists()


def test_stop_kept__a_fleet_was_kept__ended(tmp_path, process):
    ours = process(IDLE, "quietfleet")
    (tmp_path / "kept.json").write_text(json.dumps({"processes": [ours.pid]}))
    assert stop_kept(tmp_path) is True
    assert ours.wait(60) == -signal.SIGTERM


def test_stop_kept__nothing_was_kept__nothing_happens(tmp_path):
    assert stop_kept(tmp_path) is False
    assert list(tmp_path.iterdir()) == []


def test_write_readings__one_station__what_a_sensor_replays(tmp_path):
    path = tmp_path / "readings.csv"
    write_readings(path, "JFK", SINCE, UNTIL)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [(at, fields) for at, fields in load_weather()["JFK"] if SINCE <= at < UNTIL]
    assert [(float(row.pop("time")), {k: float(v) for k, v in row.items() if v}) for row in rows] == expected


def test_write_history__all_stations__named(tmp_path):
    path = tmp_path / "history.csv"
    write_history(path, SINCE, UNTIL)
    with path.open(newline="") as file:
        assert {row["device"] for row in csv.DictReader(file)} == {"EWR", "JFK", "LGA"}


def test_sticking_source__fault_on__repeats_the_last_reading_until_it_is_off(tmp_path):
    coming = iter([[(1.0, {"temp": 1.0})], [(2.0, {"temp": 2.0})], [(3.0, {"temp": 3.0})]])
    faults = Faults(tmp_path / "faults.json")
    source = StickingSource(SimpleNamespace(due=lambda: next(coming)), faults)
    assert source.due() == [(1.0, {"temp": 1.0})]
    (tmp_path / "faults.json").write_text('{"stuck": true}')
    assert source.due() == [(2.0, {"temp": 1.0})]
    (tmp_path / "faults.json").write_text('{"stuck": false}')
    assert source.due() == [(3.0, {"temp": 3.0})]


@pytest.mark.parametrize("text", [None, "", "{", "{}", '{"stuck": 0}'])
def test_faults__nothing_switched_on__none(tmp_path, text):
    if text is not None:
        (tmp_path / "faults.json").write_text(text)
    assert not Faults(tmp_path / "faults.json")["stuck"]


def test_key_of__development_mnemonic__the_accounts_everybody_knows():
    assert key_of(MNEMONIC, 0).hex() == "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


def test_free_port__asked_for__nothing_listens_there():
    assert port_is_free(free_port())


def test_program__not_installed__says_what_to_run():
    with pytest.raises(TestbedError, match="make setup"):
        program("no-such-program")


def test_journal__read_again_and_again__has_what_is_new_and_forgets_what_a_worker_that_began_anew_had(fleet):
    state = fleet.add("porch", Kind.SENSOR, owner=3).folder / "state"
    state.mkdir()

    def write(*kinds):
        with Database(state / "worker.db") as database:
            log = AuditLog(database)
            for kind in kinds:
                log.append(kind, {"n": len(kind)}, at=1.0)

    def kinds(**chosen):
        return [entry.kind for entry in fleet.journal("porch", **chosen)]

    assert kinds() == []
    write("one", "two")
    assert (kinds(), kinds(kind="two"), kinds(after=1)) == (["one", "two"], ["two"], ["two"])
    write("three")
    assert (kinds(), kinds(after=2)) == (["one", "two", "three"], ["three"])
    for file in state.iterdir():
        file.unlink()
    assert kinds() == []
    write("four", "five", "six", "seven")
    assert kinds() == ["four", "five", "six", "seven"]
    for file in state.iterdir():
        file.unlink()
    write("eight")
    assert kinds() == ["eight"]
