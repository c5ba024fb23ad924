"""First act: contracts, people, keys, consents, fees, processes, the first configuration."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

from quietfleet.chain.deployment import load_deployment
from quietfleet.chain.service import ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey
from quietfleet.crypto.keystore import create_keystore
from quietfleet.testbed.anvil import MNEMONIC, key_of
from quietfleet.testbed.fleet import SITE, Fleet, write_history, write_readings
from quietfleet.testbed.scene import FIRST_DAY, SPEED, Scene, at

CHANNEL: Final = "weather"
STATIONS: Final = ("EWR", "JFK", "LGA")
STUCK, SWITCHED = "sensor-ewr", "sensor-jfk"
RELAYS: Final = 5  # each under an owner of its own: three carry a message, and two more let it go around a dead one
PACE: Final = {"cover_rate": 16.0, "hop_delay": 0.02}  # a day of data takes seconds here: messages must keep up
LEAD, GRACE = 4, 8  # seconds a new configuration is announced ahead, and its predecessor tolerated
WAVES: Final = 2  # of two processors: one tries each release before the other gets it
CROWD: Final = 2  # of three devices at one place, of which one will fail: a real place has more, and asks for more
VENTED, FAN_FILE = "sensor-lga", "fan"
FAN: Final = {
    "name": "fan",
    "file": FAN_FILE,
    "low": 0,
    "high": 255,
    "safe": 0,
    "digits": 0,
    "rest": 0,
    "hold": 60,
    "effect": "temp",
    "settle": 6 * 3600,
}
"""A file in the sensor's folder, as sysfs shows a fan's PWM."""
COMMANDS: Final = [
    {"actuator": "fan", "value": 255, "above": 18.0, "lasts": 30},
    {"actuator": "fan", "value": 96, "lasts": 30, "confidence": 0.3},
]
"""Full when it gets warm, and a little air otherwise, where the forecast is anything to go by."""
AT_MOST: Final = 180.0  # seconds until the fleet is founded, on however busy a machine
HEAD_START: Final = 16.0  # seconds between preparing the fleet and the first day of data


async def found(scene: Scene) -> None:
    """Deploy, enrol everybody, set the first configuration, start everybody; sensors when there is a model to ask.

    The account that publishes approves as well, so that retraining runs unattended; a careful service names a person.
    """
    publisher = PrivateKey.from_bytes(key_of(MNEMONIC, 1))
    scene.screen.tell("owner", "deploys the contracts, as on a testnet: `ape run deploy`")
    deployment = scene.owners.deploy(approver=publisher.public.id)
    scene.deployment = load_deployment(deployment)
    scene.fleet = Fleet(scene.folder, scene.url, deployment, random=random.Random(scene.seed).randbytes)  # noqa: S311 - repeatable
    scene.screen.tell("owner", f"Service stands at {scene.deployment.service.address}; twelve devices draw their keys")
    _people(scene, publisher)
    members = scene.fleet.members
    scene.owners.name({name: member.id for name, member in members.items()})
    scene.owners.appoint(publisher.public.id, members["gateway"].id)
    scene.fleet.start(*(name for name in members if name not in scene.sensors()))
    scene.screen.tell("owner", "owners enrol their devices, each with the device's signed consent")
    await scene.fleet.enrol()
    scene.owners.rotate(scene.fleet.prepare_epoch(1), lead=0, grace=GRACE)
    await _enrolled(scene)
    await scene.fleet.until(
        "the first model is out", lambda: all(scene.has(p, "release-installed") for p in scene.processors()), AT_MOST
    )
    scene.fleet.start(*scene.sensors())
    talkers = [name for name, member in members.items() if member.kind is not Kind.RELAY]
    await scene.fleet.until(
        "every worker reads the configuration",
        lambda: all(scene.has(name, "configuration") for name in talkers),
        AT_MOST,
    )


async def _enrolled(scene: Scene) -> None:
    members = scene.fleet.members.values()
    async with scene.client() as client:
        service = ServiceContract(client)
        states = await asyncio.gather(*(service.worker(member.id) for member in members))
        revenue = int(await client.request("eth_getBalance", scene.deployment.service.address, "latest"), 16)
        fee = await service.fee()
    usable = sum(state is not None and state.usable for state in states)
    owners = len({state.owner for state in states if state})
    paid = revenue == fee * len(states)
    scene.line(
        f"{usable} workers enrolled with consent, each under an owner of its own, fees paid",
        f"chain: {usable} active, {owners} owners, {revenue} wei of fees",
        holds=usable == owners == len(states) and paid,
    )


def _people(scene: Scene, publisher: PrivateKey) -> None:
    fleet = scene.fleet
    scene.relays = relays = fleet.add_relays(RELAYS, owner=13)
    scene.replay_epoch = time.time() + HEAD_START
    fleet.data = {"start": FIRST_DAY, "epoch": scene.replay_epoch, "speed": SPEED}
    fleet.add("oracle", Kind.ORACLE, owner=5, network=PACE | {"peers": relays[:2]})
    gateway = fleet.add(
        "gateway",
        Kind.GATEWAY,
        owner=6,
        network=PACE | {"peers": relays[1:3]},
        gateway={"channel": CHANNEL, "history": "history.csv", "seed": scene.seed, "k": CROWD},
        rollout={"waves": WAVES},
    )
    write_history(gateway.folder / "history.csv", at("2013-01-01"), at("2013-02-01"))
    create_keystore(gateway.folder / "publisher.json", publisher, fleet.passphrase, light=True)
    for index in (0, 1):
        fleet.add(
            f"processor-{index + 1}",
            Kind.PROCESSOR,
            owner=7 + index,
            network=PACE | {"peers": [relays[index], relays[index + 1]]},
            processor={"site": SITE, "capacity": 3, "channel": CHANNEL, "commands": COMMANDS},
        )
    for index, station in enumerate(STATIONS):
        _sensor(scene, station, owner=9 + index, peers=[relays[index], relays[(index + 1) % RELAYS]])


def _sensor(scene: Scene, station: str, owner: int, peers: list[str]) -> None:
    name = f"sensor-{station.lower()}"
    program = ("quietfleet.testbed.faulty",) if name in {STUCK, SWITCHED} else ()
    sensor = {
        "site": SITE,
        "replay": "readings.csv",
        "actuators": [FAN] if name == VENTED else [],
    }
    network = PACE | {"peers": peers}
    member = scene.fleet.add(name, Kind.SENSOR, owner=owner, program=program, network=network, sensor=sensor)
    write_readings(member.folder / "readings.csv", station, at(FIRST_DAY), at("2013-12-31"))
    if name == VENTED:
        (member.folder / FAN_FILE).write_text("0\n")
