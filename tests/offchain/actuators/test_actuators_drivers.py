from __future__ import annotations

import math
import threading
from pathlib import Path

import pytest

from quietfleet.actuators.drivers import FileDriver, Simulated
from quietfleet.clock import ManualClock
from quietfleet.errors import ActuatorFailed
from quietfleet.settings import ActuatorSection
from quietfleet.workers._motions import WITHIN, Motion

HOUR = 3600.0


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pwm1"
    path.write_text("0\n")
    return path


@pytest.mark.parametrize(
    ("value", "scale", "digits", "written"),
    [(128, 1.0, 0, "128\n"), (0.5, 1e6, 0, "500000\n"), (21.25, 1.0, 2, "21.25\n"), (-3.0, 1.0, 1, "-3.0\n")],
)
def test_file__set__a_decimal_number_is_written_and_read_back(file, value, scale, digits, written):
    assert FileDriver(file, scale, digits).set(value) == value
    assert file.read_text() == written


def test_file__is_there_already__not_written_again(file):
    file.write_text("128")
    assert FileDriver(file, digits=0).set(128) == 128
    assert file.read_text() == "128"


def test_file__not_there__a_failure_and_no_new_file(tmp_path):
    with pytest.raises(ActuatorFailed) as failed:
        FileDriver(tmp_path / "nothing").set(1.0)
    assert failed.value.words == "No such file or directory"
    assert not (tmp_path / "nothing").exists()


def test_file__takes_what_it_does_not_keep__a_failure():
    with pytest.raises(ActuatorFailed) as failed:
        FileDriver(Path("/dev/null")).set(1.0)
    assert "reads back" in failed.value.words


def test_file__holds_no_number__written(file):
    file.write_text("auto\n")
    FileDriver(file, digits=0).set(7)
    assert file.read_text() == "7\n"


def test_simulated__felt__two_thirds_of_the_way_after_its_time_constant():
    section = ActuatorSection("heater", 0.0, 10.0, 0.0, effect="temp", gain=0.5, lag=HOUR)
    clock = ManualClock(0.0)
    heater = Simulated(section, clock.now)
    heater.set(8.0)
    assert heater.felt(0.0) == 0.0
    assert heater.felt(HOUR) == pytest.approx(4.0 * (1 - math.exp(-1)))
    clock.advance(2 * HOUR)
    heater.set(0.0)
    assert heater.felt(30 * HOUR) == pytest.approx(0.0, abs=1e-6)


class Stubborn:
    """A driver that comes back when it is let go."""

    def __init__(self):
        self.free = threading.Event()

    def set(self, value):
        assert self.free.wait(30)
        return value


def test_motion__driver_takes_its_time__nobody_waits_and_it_says_so():
    driver = Stubborn()
    motion = Motion(driver, 3.0, now=100.0)
    assert not motion.over
    assert not motion.hangs(100.0 + WITHIN)
    assert motion.hangs(101.0 + WITHIN)
    driver.free.set()
    assert motion.wait(30)
    assert (motion.read, motion.fault, motion.hangs(1e9)) == (3.0, "", False)


def test_motion__driver_breaks__its_fault_and_nobody_elses():
    class Broken:
        def set(self, value):
            raise ZeroDivisionError(value)

    motion = Motion(Broken(), 3.0, now=0.0)
    assert motion.wait(30)
    assert (motion.read, motion.fault) == (None, "ZeroDivisionError")
