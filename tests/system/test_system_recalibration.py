from __future__ import annotations

import json
import time

from click.testing import CliRunner

from quietfleet.cli import main
from quietfleet.storage import Database


def quietfleet(system, *words):
    """Run a command as an operator would, beside the running fleet."""
    environment = {"QUIETFLEET_PASSPHRASE": system.fleet.passphrase}
    done = CliRunner(mix_stderr=False).invoke(main, [str(word) for word in words], env=environment)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def gone_up(system, processor, sensor):
    """Whether a sensor's readings have gone up to the gateway."""
    with Database.observe(system.fleet.members[processor].folder / "state" / "worker.db") as database:
        row = database.execute("SELECT uploaded FROM devices WHERE id = ?", (sensor,)).fetchone()
    return row is not None and row[0] > 0


async def test_recalibrate__by_hand_beside_the_running_fleet__signed_by_the_sensor_and_told_upwards_without_its_name(
    flowing,
):
    system = flowing
    sensor, processor = system.fleet.members["sensor-2"].id, system.processor_of("sensor-2")
    settings = system.fleet.members[processor].folder / "worker.toml"
    await system.until("readings go up", lambda: gone_up(system, processor, sensor))
    begun = time.time()
    made = quietfleet(system, "recalibrate", sensor, "-s", settings, "--why", "after the storm", "--json")
    assert made["requested"] == [sensor]

    await system.until("the sensor does", lambda: system.since("sensor-2", "recalibrating", begun) != [])
    await system.until("the processor hears", lambda: system.since(processor, "recalibrated", begun) != [])
    await system.until("the gateway hears", lambda: system.since("gateway", "recalibrated", begun) != [])
    listed = quietfleet(system, "recalibrate", "--list", "-s", settings, "--json")
    (told,) = (one for one in listed if one["signature"] and one["reason"] == "after the storm")
    assert (told["sensor"], told["state"]) == (sensor, "checked")
    entries = system.since("gateway", "recalibrated", begun)
    assert all(sensor[2:].lower() not in json.dumps(entry.detail).lower() for entry in entries)
    await system.flowing()
