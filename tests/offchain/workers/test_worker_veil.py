"""What the anonymising gateway lets nobody learn: from its disk, its answers, names on both sides of a turn."""
# ruff: noqa: F811 -- fixtures are imported, and asked for by their names

from __future__ import annotations

import base64
import csv
import hmac
import json
import socket
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from test_worker_gateway import (  # noqa: F401 - fixtures
    cloud,
    gateway,
    idle,
    releases,
    report_outcome,
    say,
)
from worker_world import DAY, HOUR, OWNER, SITE, Pen

from quietfleet.chain.events import BootstrapNamed
from quietfleet.chain.types import Kind
from quietfleet.errors import HoldInForce, SettingsError
from quietfleet.settings import NetworkSection
from quietfleet.storage import Hold
from quietfleet.workers._veil import forget_device, hold_device, lift_hold
from quietfleet.workers.messages import DriftReport, Stored, Upload
from quietfleet.workers.start import make_agent

MONTH = 30 * DAY
TURN = 530 * MONTH  # 2013-07-14, a turn of windows
SUMMER = 1_370_044_800.0
LEAF = "5e0f" * 6  # a name as a processor's veil gives
PSEUDONYMS = [f"{number}c0ffee1" * 3 for number in range(3)]
ENODE = "enode://" + "ab" * 64 + "@10.0.0.7:30303"


def hourly(since, count, temp=20.0):
    return [(since + hour * HOUR, {"temp": temp + hour % 5}) for hour in range(count)]


def named(gateway, worker):
    return gateway.agent._intake.names(worker.id)


# names in windows


async def test_turn__the_same_device__two_names_that_only_the_gateway_can_join(cloud, gateway, say):
    cloud.reach(TURN + 12 * HOUR)
    await say("processor-1", Upload(LEAF, SITE, hourly(TURN - 12 * HOUR, 24)))
    first, second = gateway.agent._month.devices()
    assert set(named(gateway, cloud.workers["processor-1"])) >= {first, second}
    (joined,) = gateway.agent._intake.readings(why="test").values()
    assert [at for at, _ in joined] == [TURN + hour * HOUR for hour in range(-12, 12)]
    assert gateway.agent._intake.crowd() == "fewer than 3", "one device, and so few are not told"
    assert gateway.agent._intake.processors() == [cloud.workers["processor-1"].id]


async def test_turn__readings_sent_again_across_it__stored_once(cloud, say):
    cloud.reach(TURN - HOUR)
    before = hourly(TURN - 12 * HOUR, 11)
    assert await say("processor-1", Upload(LEAF, SITE, before)) == Stored(11)
    cloud.reach(TURN + 2 * HOUR)
    assert await say("processor-1", Upload(LEAF, SITE, before + hourly(TURN, 2))) == Stored(2)


async def test_turn__room_of_a_processor__one_device_takes_one_place(cloud, gateway, say):
    cloud.reach(TURN + 2 * HOUR)
    await say("processor-1", Upload(LEAF, SITE, hourly(TURN - 2 * HOUR, 4)))
    assert gateway.agent._intake.veil.crowd(cloud.workers["processor-1"].id) == 1


async def test_turn__everything_of_a_window_is_erased__so_is_its_key(cloud, gateway, say):
    cloud.reach(TURN - HOUR)
    await say("processor-1", Upload(LEAF, SITE, hourly(TURN - 3 * HOUR, 2)))
    (old,) = gateway.agent._month.devices()
    cloud.reach(TURN + MONTH - 2 * HOUR)
    await say("processor-1", Upload(LEAF, SITE, hourly(TURN + MONTH - 4 * HOUR, 2)))
    await wait(cloud)
    assert old in named(gateway, cloud.workers["processor-1"])
    cloud.reach(TURN + MONTH + 2 * HOUR)
    await wait(cloud)
    await wait(cloud)
    assert old not in gateway.agent._month.devices()
    assert old not in named(gateway, cloud.workers["processor-1"]), "the key is gone, and with it the link"
    assert [row[0] for row in gateway.rows("SELECT window FROM veil_key")] == [int(TURN // MONTH)]
    keys = gateway.agent._intake.veil
    thief = [keys.name(cloud.workers["processor-1"].id, LEAF, window) for window in range(528, 532)]
    assert old not in thief, "not even with keystore and database"


async def test_turn__legal_hold__keeps_the_key_as_long_as_what_it_names(cloud, gateway, say):
    cloud.reach(TURN - HOUR)
    await say("processor-1", Upload(LEAF, SITE, hourly(TURN - 3 * HOUR, 2)))
    (old,) = gateway.agent._month.devices()
    lake, veil = gateway.agent._month.lake, gateway.agent._intake.veil
    hold_device(lake, veil, Hold("case", old, 0.0, float("inf"), "anna", "a court asks", SUMMER))
    cloud.reach(TURN + HOUR)
    await say("processor-1", Upload(LEAF, SITE, hourly(TURN, 1)))
    (new,) = set(gateway.agent._month.devices()) - {old}
    assert {hold.device for hold in lake.holds()} == {old, new}, "the device's next name is held, too"
    with pytest.raises(HoldInForce):
        forget_device(lake, veil, new, now=cloud.data.now(), who="anna", why="asked")
    cloud.reach(TURN + 3 * MONTH)
    await wait(cloud)
    assert gateway.agent._month.devices() == sorted([old, new])
    lift_hold(lake, "case", who="anna", why="closed")
    assert lake.holds() == []
    await wait(cloud)
    await wait(cloud)
    assert gateway.agent._month.devices() == []
    assert gateway.rows("SELECT * FROM veil_key") == []


async def test_forget__by_one_of_two_names__both_go_and_stay_away(cloud, gateway, say):
    cloud.reach(TURN + 2 * HOUR)
    upload = Upload(LEAF, SITE, hourly(TURN - 2 * HOUR, 4))
    await say("processor-1", upload)
    old = gateway.agent._month.devices()[0]
    lake, veil = gateway.agent._month.lake, gateway.agent._intake.veil
    assert forget_device(lake, veil, old, now=cloud.data.now(), who="anna", why="asked") == 4
    assert gateway.agent._month.devices() == []
    assert gateway.rows("SELECT * FROM veil_device") == []
    assert await say("processor-1", upload) == Stored(0)
    cloud.reach(TURN + 4 * HOUR)
    assert await say("processor-1", Upload(LEAF, SITE, hourly(TURN + 3 * HOUR, 1))) == Stored(1)


async def test_start__names_of_an_earlier_version__joined_and_gone_within_the_month(cloud, gateway, say):
    cloud.reach(TURN - 5 * DAY)
    veil = gateway.agent._intake.veil
    former = _former(veil, cloud.workers["processor-1"].id)
    gateway.agent._month.append(former, hourly(TURN - 5 * DAY - 4 * HOUR, 4), who="test")
    gateway.restart()
    assert await say("processor-1", Upload(LEAF, SITE, hourly(TURN - 5 * DAY - HOUR, 2))) in {Stored(1), Stored(2)}
    (rows,) = gateway.agent._intake.readings(why="test").values()
    assert len(rows) == 5
    cloud.reach(TURN + MONTH - 3 * DAY)
    await wait(cloud)
    await wait(cloud)
    assert -1 not in [row[0] for row in gateway.rows("SELECT window FROM veil_key")]


def _former(veil, processor):
    return hmac.digest(veil._former, f"{processor}/{LEAF}".encode(), "sha256")[:12].hex()


async def wait(cloud):
    """Let the files be seen to, and then the windows' keys."""
    cloud.clock.advance(2 * HOUR)
    await cloud.say()
    await cloud.pass_time(1)


# fields


async def test_upload__fields_no_schema_names__dropped_and_counted(cloud, gateway, say):
    cloud.reach(SUMMER + 3 * HOUR)
    rows = [(SUMMER, {"temp": 20.0, "latitude": 60.4, "owner": 7.0}), (SUMMER + HOUR, {"latitude": 60.4})]
    assert await say("processor-1", Upload(LEAF, SITE, rows)) == Stored(1)
    assert gateway.metric("fields_dropped") == 3
    assert gateway.metric("readings_refused") == 1
    (kept,) = gateway.agent._intake.readings(why="test").values()
    assert kept == [(SUMMER, {"temp": 20.0})]


# crowds


@pytest.fixture
def probe(cloud, say, weather):
    """Has an attacker ask about its own device, which drifts, at a place where so many others drift as well or not."""

    async def probe(site, others, *, drifting):
        start, first = SUMMER, weather["EWR"][0][0]
        cloud.reach(start + 10 * DAY)
        crowd = [("processor-1", f"mine-{site}", 40.0)]
        crowd += [("processor-2", f"{site}-{number}", 40.0 * drifting) for number in range(others)]
        for processor, device, more in crowd:
            rows = [(at - first + start, {**read, "temp": read["temp"] + more}) for at, read in weather["EWR"][:240]]
            await say(processor, Upload(device, site, rows))
        return await say("processor-1", DriftReport(1, {f"mine-{site}": {"temp": 120.0}}))

    return probe


async def test_drift__attacker_stands_beside_a_single_device__learns_nothing_of_it(probe):
    """Were its drift called shared or not, that would tell of the one device beside it."""
    still, drifting = await probe("a", 1, drifting=False), await probe("b", 1, drifting=True)
    assert (still.fleet, list(still.devices.values())) == (drifting.fleet, list(drifting.devices.values()))
    assert list(still.devices.values()) == ["verify"], "it is told of its own device"


async def test_drift__beside_a_crowd_of_k__the_crowd_counts(probe):
    still, drifting = await probe("a", 3, drifting=False), await probe("b", 3, drifting=True)
    assert (still.fleet, list(still.devices.values())) == ("wait", ["verify"])
    assert (drifting.fleet, list(drifting.devices.values())) == ("retrain", ["retrain"])


async def test_drift__of_fewer_than_k__its_figures_are_not_written_down(gateway, probe):
    await probe("b", 1, drifting=True)
    (entry,) = gateway.journal("drift-shared")
    assert entry.keys() - {"run"} == {"channels", "at"}


async def test_drift__of_a_crowd__the_middle_is_written_down_and_nobody_is_named(gateway, probe):
    await probe("b", 3, drifting=True)
    (entry,) = gateway.journal("drift-shared")
    assert entry.keys() - {"run"} == {"channels", "at", "devices", "percent", "quarantined"}
    assert (entry["devices"], entry["quarantined"]) == (4, 0)


# the disk


class Traces:
    """Everything that would tell who somebody is, in every way it might be written."""

    def __init__(self, **secrets):
        self._secrets = {name: list(_ways(secret)) for name, secret in secrets.items()}

    def found(self, data):
        lower = data.lower()
        return {name for name, ways in self._secrets.items() for way in ways if way in data or way.lower() in lower}


def _ways(secret):
    if isinstance(secret, str):
        yield secret.encode()
        return
    yield secret
    yield secret.hex().encode()
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(shift) + secret)[4:-4]


def everything(gateway):
    """Every file of a gateway, every value in its database, and every reading in its sealed files."""
    folder = gateway.runtime.folder
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield path.name, path.read_bytes()
    for (table,) in gateway.rows("SELECT name FROM sqlite_master WHERE type = 'table'"):
        for row in gateway.rows(f"SELECT * FROM {table}"):  # noqa: S608 - its own tables
            yield table, b"\n".join(one if isinstance(one, bytes) else str(one).encode() for one in row)
    vessel, lake = gateway.agent._month.lake._vessel, gateway.agent._month.lake
    lake.flush()
    assert lake._index.parts()
    for part in lake._index.parts():
        yield part.name, vessel.open(part)
        yield part.name, json.dumps([vessel.read(part), part.devices]).encode()


@pytest.fixture
def traces(cloud):
    secrets = {f"pseudonym {number}": name for number, name in enumerate(PSEUDONYMS)}
    for worker in cloud.workers.values():
        if worker.name != "gateway":
            secrets[f"{worker.name}'s address"] = bytes.fromhex(worker.id[2:])
            secrets[f"{worker.name}'s key"] = worker.key.public.to_bytes()
    return Traces(**secrets, owner=bytes.fromhex(OWNER[2:]), enode=ENODE, node=bytes.fromhex("ab" * 64))


@pytest.fixture
def pipeline():
    return None


@pytest.fixture
async def founded(world, pipeline, releases, weather):  # with a history that is worth learning from
    with (world.folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        fields = list(weather["EWR"][0][1])
        writer.writerow(["device", "time", *fields])
        for station, rows in weather.items():
            writer.writerows([station, at, *(row.get(name, "") for name in fields)] for at, row in rows[: 30 * 24])
    for name, kind in (("oracle", Kind.ORACLE), ("gateway", Kind.GATEWAY), ("sensor", Kind.SENSOR)):
        await world.add(name, kind, **({"agent": Pen} if kind is Kind.SENSOR else {}))
    await world.rotate()
    await world.say(BootstrapNamed(1, (ENODE,)))
    return world


@pytest.fixture
def lived(cloud, gateway, say, idle, releases, weather):
    """A gateway that has trained on a history and on what was uploaded, and released both."""

    async def lived():
        for number, station in enumerate(("EWR", "JFK", "LGA")):
            rows = [row for row in weather[station] if SUMMER <= row[0] < SUMMER + 10 * DAY]
            cloud.reach(SUMMER + 10 * DAY)
            for first in range(0, len(rows), 240):
                name = f"processor-{1 + number % 2}"
                await say(name, Upload(PSEUDONYMS[number], SITE, rows[first : first + 240]))
        await say("processor-1", DriftReport(1, {PSEUDONYMS[0]: {"temp": 120.0}}))
        for _ in range(3):
            await idle()
            await releases.tell()

    return lived


async def test_disk__after_training_drift_and_release__names_nobody(cloud, gateway, lived, traces):
    await lived()
    assert gateway.journal("drift-shared")
    assert len(gateway.journal("trained")) == 2
    telling = {(name, *traces.found(data)) for name, data in everything(gateway) if traces.found(data)}
    assert telling == set()


@pytest.mark.parametrize("way", [bytes, bytes.hex, lambda one: "0X" + one.hex().upper(), base64.b64encode])
async def test_disk__somebody_is_named_after_all__the_search_finds_it(cloud, gateway, lived, traces, way):
    secret = cloud.workers["sensor"].key.public.to_bytes()
    planted = way(b"x" + secret if way is base64.b64encode else secret)
    (gateway.runtime.folder / "note.txt").write_bytes(
        b"peer=" + (planted.encode() if isinstance(planted, str) else planted)
    )
    assert traces.found((gateway.runtime.folder / "note.txt").read_bytes()) == {"sensor's key"}
    gateway.runtime.note("seen", peer=cloud.workers["sensor"].id)
    gateway.agent._month.append("leaf", [(SUMMER, {PSEUDONYMS[0][:32]: 1.0})], who="test")
    found = {name for _, data in everything(gateway) for name in traces.found(data)}
    assert found >= {"sensor's key", "sensor's address", "pseudonym 0"}


# no way in but messages


async def test_gateway__its_node_runs__waits_for_nobody_on_any_port(gateway):
    node = gateway.runtime.presence.node
    before = listening()
    await node.start()
    try:
        assert listening() == before
    finally:
        await node.stop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert len(listening()) == len(before) + 1, "as one that listens shows"
        assert server


def test_gateway__told_to_listen__does_not_start(world):
    chosen = world.settings("gateway")
    open_ = msgspec.structs.replace(chosen, network=NetworkSection(listen="127.0.0.1:30303"))
    with pytest.raises(SettingsError, match="listen is for relays"):
        make_agent("gateway", SimpleNamespace(settings=open_), "")


def listening():
    """The sockets of this process that wait for others."""
    sockets = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them
            sockets.add(str(descriptor.readlink()))
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/self/net/{name}").read_text().splitlines()
    ]
    return sorted(line[9] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets)
