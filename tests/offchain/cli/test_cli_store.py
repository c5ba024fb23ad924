"""`quietfleet store …`: what an operator asks of a gateway's readings, also while the gateway has its database open."""

from __future__ import annotations

import json

import pytest

from quietfleet.clock import SystemClock
from quietfleet.settings import load_settings
from quietfleet.storage import AuditLog, Database
from quietfleet.workers._month import open_lake
from quietfleet.workers._state import State

DAY = 86_400
ASKED = {"who": "gateway", "why": "upload"}


class Gateway:
    """The gateway's side: it has the database open while commands run."""

    def __init__(self, folder, secret):
        clock = SystemClock()
        self.folder = folder
        self.today = clock.now() // DAY * DAY
        settings = load_settings(folder / "worker.toml", {})
        self.database = Database(folder / "state" / "worker.db")
        self.audit, self.state = AuditLog(self.database), State(self.database)
        self.lake, _ = open_lake(settings, self.database, secret, trail=self.audit.append, clock=clock.now)

    def fill(self):
        for device in ("leaf", "root"):
            rows = [(self.today - age * DAY, {"temp": 1.0}) for age in (40, 2, 1)]
            self.lake.append(device, rows, **ASKED)
            self.state.set(f"site:{device}", "roof")
        self.state.set("devices:one", ["leaf", "root"])
        self.lake.flush()

    def rows(self):
        return {device: len(rows) for device, rows in self.lake.scan(**ASKED).items()}


@pytest.fixture
def gateway(worker, tmp_path):
    opened = Gateway(tmp_path, worker.to_bytes())
    opened.fill()
    yield opened
    opened.database.close()


@pytest.fixture
def told(run):
    """Runs a command that works, and returns what it says to programs."""

    def told(*words):
        result = run("store", *words, "--json")
        assert result.exit_code == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]

    return told


def test_list__beside_the_gateway__names_devices_with_their_tags(gateway, told):
    (found,) = told("list", "--check")
    assert found == {"devices": {d: gateway.lake.tag(d) for d in ("leaf", "root")}, "holds": [], "faults": []}


def test_list__file_damaged_and_one_planted__told_and_exit_1(gateway, run):
    first, *_ = sorted((gateway.folder / "state" / "month").rglob("*.sealed"))
    first.write_bytes(b"x")
    (first.parent / f"{'0' * 32}.sealed").write_bytes(b"planted")
    result = run("store", "list", "--check")
    assert result.exit_code == 1
    assert "is not what was written" in result.stdout
    assert "was not written by this store" in result.stdout
    assert "2 files" in result.stderr


def test_erase__what_is_due__gone_and_certified(gateway, told):
    assert told("erase", "--why", "asked") == [{"erased": 2}]
    assert gateway.rows() == {"leaf": 2, "root": 2}
    (certificate,) = told("certificates")
    assert (certificate["what"], certificate["rows"]) == ("retention", 2)


def test_erase__a_day__unread(gateway, told, run):
    day = "1970-01-01"
    assert told("erase", "--day", day, "--why", "damaged") == [{"erased": 0}]
    old = min(path.name for path in (gateway.folder / "state" / "month").iterdir())
    assert told("erase", "--day", old, "--why", "damaged", "--who", "anna") == [{"erased": 2}]
    assert "anna: damaged" in run("store", "certificates").stdout


def test_hold__in_force__erasure_passes_it_by_until_it_is_released(gateway, told, refused):
    (placed,) = told("hold", "case", "--device", "leaf", "--who", "counsel", "--why", "a claim")
    assert (placed["name"], placed["device"], placed["since"]) == ("case", "leaf", None)
    assert "already" in refused("store", "hold", "case", "--why", "again")
    assert told("erase", "--why", "asked") == [{"erased": 1}]
    assert "case" in refused("store", "forget", "leaf", "--why", "its owner asks")
    assert gateway.rows() == {"leaf": 3, "root": 2}
    assert told("release-hold", "case", "--why", "settled") == [{"released": "case"}]
    assert told("erase", "--why", "asked") == [{"erased": 1}]
    assert "no hold" in refused("store", "release-hold", "case", "--why", "settled")


def test_forget__beside_the_gateway__nothing_of_the_device_stays_or_comes_back(gateway, told):
    assert told("forget", "leaf", "--why", "its owner asks", "--who", "anna") == [{"erased": 3}]
    assert gateway.rows() == {"root": 3}
    assert gateway.state.get("site:leaf") is None
    assert gateway.state.get("devices:one") == ["root"]
    assert gateway.lake.append("leaf", [(gateway.today - DAY, {"temp": 1.0})], **ASKED) == 0
    (certificate,) = told("certificates", "--device", gateway.lake.tag("leaf"))
    assert (certificate["who"], certificate["why"], certificate["rows"]) == ("anna", "its owner asks", 3)
    gateway.audit.verify()
    assert b"leaf" not in b"".join(path.read_bytes() for path in (gateway.folder / "state").glob("worker.db*"))


def test_store__asked_before_the_gateway_ever_ran__says_so(worker, refused):
    assert "never ran" in refused("store", "list")


def test_store__another_passphrase__refused(gateway, run):
    assert run("store", "list", passphrase="wrong").exit_code == 1
