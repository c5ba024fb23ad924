from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from worker_world import HOUR, hours

from quietfleet.chain.types import Kind
from quietfleet.errors import MessageRefused
from quietfleet.workers._hardware import Hardware
from quietfleet.workers.messages import MOST_SAMPLES, Telemetry, make_codec

EVERY = 60.0


class Machine:
    """A machine whose figures are what the test says."""

    def __init__(self, **figures):
        self.figures = {"cpu": 0.1, "memory": 0.3, "battery": 0.8, **figures}

    def sample(self):
        return dict(self.figures)


@pytest.fixture
async def told(world):
    """A pair of which the sensor tells every minute how it does."""
    world.telemetry_every = EVERY
    for name, kind in (("oracle", Kind.ORACLE), ("processor", Kind.PROCESSOR), ("sensor", Kind.SENSOR)):
        await world.add(name, kind)
    world.workers["sensor"].agent._telemetry._machine = Machine()
    await world.rotate()
    await world.until(lambda: world.workers["processor"].journal("session-open") != [])
    return world


@pytest.fixture
def sensor(told):
    return told.workers["sensor"]


@pytest.fixture
def processor(told):
    return told.workers["processor"]


def kept(processor, sensor):
    return processor.agent._health._series.window(sensor.id, 0, 1e11)


def alarms(processor):
    return [alarm for alarm in processor.agent._watch.alarms.open() if alarm.cause == "poor health"]


async def live(told, minutes):
    for minute in range(minutes):
        told.workers["sensor"].measure(hours(minute + 1, 0.0)[minute:])
        await told.pass_time(EVERY, step=5.0)


# what is told


async def test_sensor__every_so_often__its_processor_knows_how_it_does(told, sensor, processor):
    await live(told, 4)
    rows = kept(processor, sensor)
    assert len(rows) >= 3
    assert {"cpu", "memory", "battery", "queue", "link", "rtt"} <= rows[-1][1].keys()
    assert rows[-1][1]["link"] == 1.0
    health = processor.agent.status()["health"][sensor.id]
    assert (health["score"], health["reasons"]) == (100.0, [])
    pseudonym = processor.agent._devices.pseudonym(sensor.id)
    assert processor.metric("health", device=pseudonym) == 100.0


async def test_battery__goes_down__alarm_that_says_so_and_is_over_once_it_is_charged(told, sensor, processor):
    sensor.agent._telemetry._machine.figures |= {"battery": 0.03}
    await live(told, 3)
    (alarm,) = alarms(processor)
    assert "battery is at 3%" in alarm.detail
    assert processor.agent._devices.quarantined()[sensor.id] is None
    raised = processor.journal("alarm")[0]
    assert (raised["cause"], raised["actions"]) == ("poor health", ["tell"])
    sensor.agent._telemetry._machine.figures |= {"battery": 0.9}
    told.clock.advance(HOUR)
    await live(told, 6)
    assert alarms(processor) == []


async def test_score__wavers_about_the_limit__one_alarm(told, sensor, processor):
    for battery in (0.04, 0.075, 0.04, 0.075):
        sensor.agent._telemetry._machine.figures |= {"battery": battery}
        told.clock.advance(HOUR)
        await live(told, 2)
    assert len([one for one in processor.journal("alarm") if one["cause"] == "poor health"]) == 1


async def test_nobody_there__the_newest_are_told_later(told, sensor, processor):
    await told.switch(processor, active=False)
    await live(told, 60)
    assert len(sensor.rows("SELECT at FROM telemetry")) <= 49
    await told.switch(processor, active=True)
    await told.until(lambda: processor.in_session_with(sensor))
    await live(told, 6)
    assert len(kept(processor, sensor)) >= 3 * MOST_SAMPLES - 1


async def test_sensor__tells_nothing_when_it_is_told_not_to(world):
    for name, kind in (("oracle", Kind.ORACLE), ("processor", Kind.PROCESSOR), ("sensor", Kind.SENSOR)):
        await world.add(name, kind)
    await world.rotate()
    await world.until(lambda: world.workers["processor"].journal("session-open") != [])
    await world.pass_time(600, step=20.0)
    assert world.workers["processor"].agent.status()["health"] == {}


async def test_week__is_over__erased_from_the_file(told, sensor, processor):
    await live(told, 3)
    assert kept(processor, sensor) != []
    sensor.agent._telemetry._every = 0.0
    told.clock.advance(8 * 24 * HOUR)
    await told.pass_time(60, step=5.0)
    assert kept(processor, sensor) == []


async def test_kept__on_disk__not_to_be_read_from_it(told, sensor, processor):
    await live(told, 3)
    ((day,),) = processor.rows("SELECT day FROM telemetry_day")
    bodies = [body for (body,) in processor.rows(f"SELECT body FROM telemetry_{day}")]  # noqa: S608 - a number
    assert bodies
    assert all(b"battery" not in body for body in bodies)


# attackers


@pytest.mark.parametrize(
    "figures", [{"cpu": math.nan}, {"cpu": math.inf}, {f"c{n}": 1.0 for n in range(25)}, {"c" * 33: 1.0}]
)
def test_sensor__says_what_is_no_figure_or_too_many__not_decoded(figures):
    with pytest.raises(MessageRefused):
        make_codec().body(msgspec.msgpack.encode(Telemetry([(1.0, figures)])))


async def say(told, sensor, processor, samples):
    await sensor.do(lambda: sensor.runtime.messenger.notify(processor.id, Telemetry(samples)))
    await told.pass_time(3)


async def test_sensor__floods_or_dates_falsely__what_is_kept_is_bounded(told, sensor, processor):
    now, before = told.clock.now(), len(kept(processor, sensor))
    for _ in range(4):
        await say(told, sensor, processor, [(now + place / 100, {"cpu": 0.5}) for place in range(MOST_SAMPLES)])
    await say(told, sensor, processor, [(now + 1e6, {"cpu": 0.5}), (now - 1e7, {"cpu": 0.5}), (-5.0, {"cpu": 0.5})])
    assert len(kept(processor, sensor)) <= before + 3
    assert processor.metric("telemetry_refused", reason="of another time") >= 60
    assert processor.metric("steps_failed") == 0


async def test_sensor__lies_about_itself__at_most_an_alarm_and_nothing_is_done_about_anybody(told, sensor, processor):
    now = told.clock.now()
    await say(told, sensor, processor, [(now + 20 * n, dict.fromkeys(("cpu", "heat", "rtt"), 1e300)) for n in range(9)])
    await live(told, 2)
    assert all([str(one) for one in alarm.actions] == ["tell"] for alarm in alarms(processor))
    assert processor.metric("steps_failed") == 0


async def test_stranger__tells_of_itself__not_kept(told, processor):
    other = await told.add("other", Kind.PROCESSOR)
    processor.agent._health.take(SimpleNamespace(peer=other.id), Telemetry([(told.clock.now(), {"cpu": 0.1})]))
    assert processor.metric("telemetry_refused", reason="not our device") == 1
    assert processor.agent._health._series.window(other.id, 0, 1e11) == []


# the machine


def write(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    files = {
        "proc/stat": "cpu 100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1\n",
        "proc/meminfo": "MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable:   250 kB\n",
        "proc/uptime": "1234.5 99.0\n",
        "sys/class/thermal/thermal_zone0/temp": "41000\n",
        "sys/class/thermal/thermal_zone1/temp": "56500\n",
        "sys/class/power_supply/BAT0/type": "Battery\n",
        "sys/class/power_supply/BAT0/capacity": "83\n",
        "sys/class/power_supply/mouse/type": "Battery\n",
        "sys/class/power_supply/mouse/scope": "Device\n",
        "sys/class/power_supply/mouse/capacity": "5\n",
        "sys/class/power_supply/AC/type": "Mains\n",
        "sys/bus/iio/devices/iio:device0/in_accel_x_raw": "10\n",
        "sys/bus/iio/devices/iio:device0/in_accel_y_raw": "-20\n",
        "sys/bus/iio/devices/iio:device0/in_accel_z_raw": "1000\n",
        "sys/bus/iio/devices/iio:device0/in_accel_scale": "0.00980665\n",
        "sys/bus/iio/devices/iio:device0/in_anglvel_z_raw": "5\n",
        "sys/bus/iio/devices/iio:device0/in_anglvel_z_scale": "0.1\n",
        "sys/bus/iio/devices/iio:device1/in_magn_x_raw": "21\n",
        "sys/bus/iio/devices/iio:device1/in_magn_scale": "0.01\n",
        "sys/bus/iio/devices/iio:device1/in_temp_raw": "100\n",
        "sys/bus/iio/devices/iio:device1/in_temp_offset": "50\n",
        "sys/bus/iio/devices/iio:device1/in_temp_scale": "100\n",
        "sys/bus/iio/devices/iio:device1/in_humidityrelative_input": "45500\n",
        "sys/bus/iio/devices/iio:device1/in_pressure_input": "101.325\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_hardware__a_board_with_everything__in_our_units(root, tmp_path):
    machine = Hardware(root, tmp_path)
    assert "cpu" not in machine.sample(), "busy since when?"
    (root / "proc/stat").write_text("cpu 175 0 100 825 0 0 0 0 0 0\n")
    found = machine.sample()
    assert found["cpu"] == 0.75
    assert found["memory"] == 0.75
    assert 0 < found["storage"] < 1
    assert (found["battery"], found["heat"], found["uptime"]) == (0.83, 56.5, 1234.5)
    assert (found["accel_x"], found["accel_z"]) == pytest.approx((0.098067, 9.80665), abs=1e-5)
    assert (found["gyro_z"], found["magn_x"]) == (0.5, 21.0)
    assert (found["ambient"], found["humidity"], found["pressure"]) == (15.0, 45.5, 1013.25)


def test_hardware__nothing_there_or_broken__left_out(tmp_path):
    assert Hardware(tmp_path / "none", tmp_path / "nowhere").sample() == {}
    broken = tmp_path / "broken"
    write(broken, proc__uptime="soon\n", proc__meminfo="MemTotal: x kB\n", proc__stat="gpu 1\n")
    assert Hardware(broken, tmp_path / "nowhere").sample() == {}


def test_hardware__this_machine__shares_are_shares():
    machine = Hardware(Path("/"), Path("/"))
    machine.sample()
    found = machine.sample()
    assert all(0 <= found[name] <= 1 for name in ("cpu", "memory", "storage", "battery") if name in found)
