"""A processor in a container made of our OCI image, without any privilege, works in a fleet like any other."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from system_fleet import DAY, SPEED, START, System, standing

from quietfleet.chain.types import Kind
from quietfleet.crypto.keystore import create_keystore
from quietfleet.storage import OciLayout
from quietfleet.testbed import box
from quietfleet.testbed.anvil import MNEMONIC, key_of
from quietfleet.testbed.box import SECRETS, Box
from quietfleet.testbed.contracts import ROOT, compile_contracts
from quietfleet.testbed.fleet import SITE, write_history
from quietfleet.testbed.image import SETTINGS

INSIDE = "processor-1"
DEPLOYMENT = "/etc/quietfleet/deployment.json"


@pytest.fixture(scope="module")
def room():
    """A folder that an unprivileged user can reach, which the tests' own is not."""
    if reason := box.missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="quietfleet-box-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def image(room):
    """The processor's image, made by the tool that is for it."""
    made = subprocess.run(
        [ROOT / "tools" / "image", "processor", room / "images"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    assert OciLayout(room / "images").digest("processor") == made.stdout.strip()
    return room / "images"


class Town(System):
    """The least fleet that answers a sensor: its one processor is in a container."""

    def people(self) -> None:
        fleet = self.fleet
        fleet.data = {"start": "2013-03-20", "epoch": time.time(), "speed": SPEED}
        self.relays = fleet.add_relays(1, owner=11)
        self.add("oracle", Kind.ORACLE, owner=4)
        gateway = self.add("gateway", Kind.GATEWAY, owner=5, gateway={"history": "history.csv"})
        write_history(gateway.folder / "history.csv", START - 20 * DAY, START)
        publisher = gateway.key.from_bytes(key_of(MNEMONIC, 1))
        create_keystore(gateway.folder / "publisher.json", publisher, fleet.passphrase, light=True)
        self.add(INSIDE, Kind.PROCESSOR, owner=6, processor={"site": SITE, "capacity": 3})
        self.add_sensor("sensor-1", "JFK", owner=8)

    def add(self, name, kind, *, owner, **sections):
        network = {"peers": self.relays, "stem": "off"}
        return super().add(name, kind, owner=owner, network=network, **sections)

    def put_inside(self, place: Box) -> None:
        """Give the container what a processor needs, as files, and have the fleet run it."""
        member, fleet = self.fleet.members[INSIDE], self.fleet
        place.put(SETTINGS, (member.folder / "worker.toml").read_bytes())
        place.put(DEPLOYMENT, fleet.deployment.read_bytes())
        place.put(f"{SECRETS}/keystore.json", (member.folder / "keystore.json").read_bytes())
        place.put(f"{SECRETS}/passphrase", fleet.passphrase.encode())
        place.environment |= {
            "QUIETFLEET_WORKER_STATE": "/var/lib/quietfleet",
            "QUIETFLEET_WORKER_KEYSTORE": f"{SECRETS}/keystore.json",
            "QUIETFLEET_CHAIN_DEPLOYMENT": DEPLOYMENT,
            "QUIETFLEET_PASSPHRASE_FILE": f"{SECRETS}/passphrase",
            "OMP_NUM_THREADS": "1",
        }
        (member.folder / "state").symlink_to(place.state)
        member.command = tuple(place.command())


@pytest.fixture(scope="module")
def town(request, room, image, tmp_path_factory):
    artifacts = compile_contracts(request.config.cache.mkdir("contracts"))
    with standing(Town, tmp_path_factory.mktemp("town")) as town:
        asyncio.run(town.found(artifacts, start=False))
        place = Box(room / "box")
        place.folder.mkdir()
        place.unpack(image, "processor")
        town.put_inside(place)
        yield town, place


def check_powerless(pid, passphrase):
    """What the kernel says of the process: nobody's, without rights, on a root that cannot be written."""
    about = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert set(about["Uid"].split()) == {str(box.NOBODY if os.geteuid() == 0 else os.geteuid())}
    assert {int(about[kind], 16) for kind in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {0}
    assert about["NoNewPrivs"] == "1"
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    written = {words[4] for words in mounts if "ro" not in words[5].split(",")}
    assert not written & {"/", SETTINGS, DEPLOYMENT, f"{SECRETS}/keystore.json", f"{SECRETS}/passphrase"}
    assert "/var/lib/quietfleet" in written
    for file in ("environ", "cmdline"):
        assert passphrase.encode() not in Path(f"/proc/{pid}/{file}").read_bytes()


async def test_processor__in_a_container_without_privileges__joins_is_healthy_and_answers_sensors(town):
    system, place = town
    fleet = system.fleet
    fleet.start(*fleet.members)
    try:
        await system.until("it is ready", lambda: place.healthy(ready=True))
        assert place.healthy()
        check_powerless(place.pid, fleet.passphrase)
        await system.flowing()
        assert system.processor_of("sensor-1") == INSIDE
        await system.until("it has its model", lambda: fleet.journal(INSIDE, "release-installed"))
        code, _ = system.terminate(INSIDE)
    finally:
        place.kill()
    assert code == 0
    assert not json.loads((place.state / "status.json").read_text())["running"]
    system.check_database(INSIDE)
