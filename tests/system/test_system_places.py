"""Two places on real processes: a device alone, which a person has to vouch for, and three that go dark."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import subprocess
import sys
import time

import pytest
from system_fleet import DAY, MAX_AGE, START, System, standing

from quietfleet.chain.types import Kind
from quietfleet.crypto.keystore import create_keystore
from quietfleet.testbed.anvil import MNEMONIC, key_of
from quietfleet.testbed.contracts import compile_contracts
from quietfleet.testbed.fleet import write_history, write_readings

HOUR = 3600.0
HERMIT, ISLAND = "hermit", "island"
TOWN = {"north": "EWR", "south": "JFK", "roof": "LGA"}
DARK = (START + 3 * DAY, START + 3 * DAY + 14 * HOUR)  # nobody in town delivers
SILENT = (START + 6 * DAY, START + 6 * DAY + 14 * HOUR)  # the roof alone does not


class Places(System):
    """An island with one sensor, and a town with three, each with a processor of its own."""

    def people(self):
        fleet = self.fleet
        fleet.data = {"start": "2013-03-20", "epoch": time.time(), "speed": DAY / 8}
        self.relays = fleet.add_relays(2, owner=11)
        self.add("oracle", Kind.ORACLE, owner=4)
        gateway = self.add("gateway", Kind.GATEWAY, owner=5, gateway={"history": "history.csv"})
        write_history(gateway.folder / "history.csv", START - 20 * DAY, START)
        publisher = gateway.key.from_bytes(key_of(MNEMONIC, 1))
        create_keystore(gateway.folder / "publisher.json", publisher, fleet.passphrase, light=True)
        for owner, place in ((6, ISLAND), (7, "town")):
            processor = {"site": place, "capacity": 3, "capability": place, "monitor_every": 1.0}
            self.add(place, Kind.PROCESSOR, owner=owner, processor=processor)
        self.add_device(HERMIT, ISLAND, "JFK", owner=8, warmer=6.0)
        for owner, (name, station) in enumerate(TOWN.items(), start=9):
            gone = [DARK, *([SILENT] if name == "roof" else [])]
            self.add_device(name, "town", station, owner=owner, gone=gone)

    def add(self, name, kind, *, owner, **sections):
        """Without detours and cover: what is said is looked at here, not who could see it."""
        network = {"ttl": 20, "stem": "off", "peers": self.relays}
        chain = {"poll": 0.3, "max_age": MAX_AGE}
        return self.fleet.add(name, kind, owner=owner, network=network, chain=chain, **sections)

    def add_device(self, name, place, station, *, owner, gone=(), warmer=0.0):
        """A sensor that replays a station: without what it did not deliver, and where air and dew point are warmer."""
        sensor = {"site": place, "capability": place, "replay": "readings.csv", "send_every": 0.5}
        file = self.add(name, Kind.SENSOR, owner=owner, sensor=sensor).folder / "readings.csv"
        write_readings(file, station, START, START + 120 * DAY)
        rows = csv.DictReader(file.read_text().splitlines())
        with file.open("w", newline="") as opened:
            writer = csv.DictWriter(opened, rows.fieldnames)
            writer.writeheader()
            for row in rows:
                if not any(since <= float(row["time"]) < until for since, until in gone):
                    writer.writerow(row | {name: float(row[name]) + warmer for name in ("temp", "dewp") if row[name]})

    def alarms(self, processor, kind="alarm", **wanted):
        entries = [entry.detail for entry in self.fleet.journal(processor, kind)]
        return [entry for entry in entries if all(entry[name] == value for name, value in wanted.items())]

    def says(self, processor, *words):
        """Run `quietfleet alarms …` beside the running processor, as a process of its own."""
        settings = self.fleet.members[processor].folder / "worker.toml"
        command = [sys.executable, "-m", "quietfleet.cli", "alarms", *words, "--settings", str(settings), "--json"]
        environment = {"QUIETFLEET_PASSPHRASE": self.fleet.passphrase, "PATH": os.environ["PATH"]}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def places(request, tmp_path_factory):
    artifacts = compile_contracts(request.config.cache.mkdir("contracts"))
    with standing(Places, tmp_path_factory.mktemp("places")) as places:
        asyncio.run(places.found(artifacts))
        yield places


async def test_outage__of_a_place__is_one_alarm_and_a_silent_device_beside_it_another(places):
    system = places
    await system.until("the place is dark", lambda: system.alarms("town", cause="outage"))
    await system.until("it is over", lambda: system.alarms("town", "alarm-over", cause="outage"))
    (outage,) = system.alarms("town", cause="outage")
    assert outage["sensor"] == ""
    assert set(outage["actions"]) <= {"tell"}
    assert system.alarms("town", cause="gap") == [], "nobody is blamed"
    roof = system.fleet.members["roof"].id
    await system.until("the roof is missed", lambda: system.alarms("town", cause="gap", sensor=roof))
    await system.until("it is back", lambda: system.alarms("town", "alarm-over", cause="gap", sensor=roof))
    assert {one["sensor"] for one in system.alarms("town", cause="gap")} == {roof}
    assert len(system.alarms("town", cause="outage")) == 1


async def test_lone_drift__approved_by_a_person__is_learned_from_and_released_and_not_before(places):
    system = places
    hermit = system.fleet.members[HERMIT].id

    def verdicts():
        """What the gateway said of the island's drift."""
        return [entry.detail["fleet"] for entry in system.fleet.journal(ISLAND, "drift-verdict")]

    await system.until("it drifts", lambda: system.alarms(ISLAND, cause="lone drift", sensor=hermit, channel="temp"))
    (alarm,) = system.alarms(ISLAND, cause="lone drift", sensor=hermit, channel="temp")
    assert alarm["actions"] == ["verify"]
    await system.until("the gateway was asked twice", lambda: len(verdicts()) > 1)
    assert set(verdicts()) <= {"wait"}
    release = system.fleet.status(ISLAND)["release"]
    _, told = system.says(ISLAND, "list")
    assert alarm["number"] in [one["number"] for one in told]
    code, told = system.says(ISLAND, "approve", str(alarm["number"]), "--who", "anna", "--why", "it is warm there")
    assert (code, told["state"]) == (0, "approved")
    await system.until("it is learned from", lambda: "retrain" in verdicts())
    await system.until("a run began for that", lambda: system.fleet.journal("gateway", "drift-shared"))
    await system.until("a model of it runs", lambda: system.fleet.status(ISLAND)["release"] > release)
    raised = system.alarms(ISLAND, sensor=hermit, channel="temp")
    assert [one["number"] for one in raised] == [alarm["number"]], "approved, it is not raised anew under another name"
