"""Real processes that talk all the while: rotations every few seconds, sleepers, and other identities."""

from __future__ import annotations

import asyncio
import signal

import pytest
from system_fleet import MAX_AGE, System, standing

from quietfleet.chain.deployment import save_deployment
from quietfleet.chain.service import Rotation, ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.chain.wallet import Wallet
from quietfleet.crypto import PrivateKey
from quietfleet.crypto.keystore import create_keystore
from quietfleet.storage import Database
from quietfleet.testbed.anvil import MNEMONIC, key_of
from quietfleet.testbed.contracts import compile_contracts, deploy

TALKERS = ("talker-1", "talker-2", "talker-3", "talker-4")
ROTATOR = 2
LOAD = "quietfleet.testbed.load"


class Talking(System):
    """Two relays, two oracles and two gateways, of which one is named at a time, and four that never stop talking."""

    named_oracle = "oracle"
    named_gateway = "gateway"

    def people(self):
        fleet = self.fleet
        self.relays = fleet.add_relays(2, owner=11)
        rotating = {"rotator": "rotator.json", "rotate_on_disable": True, "rotate_every": 2.0, "rotate_most": 100}
        for index, name in enumerate(("oracle", "oracle-2")):
            member = self.add(name, Kind.ORACLE, owner=3 + index, oracle=rotating)
            rotator = PrivateKey.from_bytes(key_of(MNEMONIC, ROTATOR))
            create_keystore(member.folder / "rotator.json", rotator, fleet.passphrase, light=True)
        for index, name in enumerate(("gateway", "gateway-2")):
            member = self.add(name, Kind.GATEWAY, owner=5 + index, program=(LOAD, "--kind", "gateway"))
            publisher = PrivateKey.from_bytes(key_of(MNEMONIC, 1))
            create_keystore(member.folder / "publisher.json", publisher, fleet.passphrase, light=True)
        for index, name in enumerate(TALKERS):
            self.add(name, Kind.PROCESSOR, owner=7 + index, program=(LOAD, "--kind", "processor"))

    def add(self, name, kind, *, owner, **sections):
        """Without detours: three relays an envelope, for every one of them, are more than two cores carry."""
        network = {"ttl": 20, "stem": "off", "peers": self.relays}
        chain = {"poll": 0.3, "max_age": MAX_AGE}
        return self.fleet.add(name, kind, owner=owner, network=network, chain=chain, **sections)

    async def turn(self, *, lead=0, grace=0):
        """Rotate as the service owner: ahead with a grace, or at once."""
        async with self._client() as client:
            service = ServiceContract(client, Wallet(key_of(MNEMONIC, 0), client))
            latest, _ = await service.configuration()
            version = latest.version + 1 if latest else 1
            epoch = self.fleet.prepare_epoch(version, self.named_oracle, self.named_gateway)
            head = await client.header()
            rotation = Rotation(
                oracle=epoch["oracle"],
                gateway=epoch["gateway"],
                epoch_key_commitment=bytes.fromhex(epoch["epoch_key_commitment"][2:]),
                oracle_card_digest=bytes.fromhex(epoch["oracle_card_digest"][2:]),
                gateway_card_digest=bytes.fromhex(epoch["gateway_card_digest"][2:]),
                active_from=head.timestamp + lead + 2 if lead else 0,
                grace=grace,
                min_pow=0.002,
                max_ttl=60,
            )
            await (service.rotate(rotation) if lead else service.rotate_at_once(rotation))
        return version

    async def configurations(self):
        async with self._client() as client:
            return [one async for one in ServiceContract(client).history()]

    async def appoint_rotator(self):
        async with self._client() as client:
            rotator = PrivateKey.from_bytes(key_of(MNEMONIC, ROTATOR)).public.id
            await ServiceContract(client, Wallet(key_of(MNEMONIC, 0), client)).set_rotator(rotator)

    # what they say of themselves

    def rows(self, name, sql):
        with Database.observe(self.fleet.members[name].folder / "state" / "worker.db") as database:
            return database.execute(sql).fetchall()

    def answered(self, name):
        return self.fleet.status(name).get("answered", 0)

    async def talking(self, *names, answers=10):
        """Wait until these are being answered, from now on."""
        before = {name: self.answered(name) for name in names}
        await self.until(
            "they are answered", lambda: all(self.answered(name) >= before[name] + answers for name in names)
        )

    async def knows(self, version, *names):
        await self.until(
            f"they have the key of version {version}",
            lambda: all(self.has_key(name, version) for name in names),
        )

    def has_key(self, name, version):
        return {"version": version} in [entry.detail for entry in self.fleet.journal(name, "epoch-key")]

    async def hush(self, *names):
        """Have them say nothing new, and wait until everything is answered."""
        for name in names:
            (self.fleet.members[name].folder / "quiet").touch()
        owed = "SELECT count(*) FROM load_said WHERE answered = 0"
        await self.until("nothing is owed", lambda: all(self.rows(name, owed) == [(0,)] for name in names))

    # what must hold

    def check_nothing_missing(self, *names):
        """What was answered was taken, once at each gateway that took it; everything said was answered, once."""
        for name in names:
            said = self.rows(name, "SELECT number, answered FROM load_said ORDER BY number")
            assert [number for number, _ in said] == list(range(1, len(said) + 1))
            assert {times for _, times in said} == {1}
            taken = set()
            for gateway in ("gateway", "gateway-2"):
                sql = f"SELECT number, times FROM load_taken WHERE peer = '{self.fleet.members[name].id}'"  # noqa: S608
                rows = self.rows(gateway, sql)
                assert {times for _, times in rows} <= {1}
                taken |= {number for number, _ in rows}
            assert taken >= {number for number, _ in said}

    async def check_nothing_late(self, *names):
        """Nobody opened anything under a version after its grace, as soon as it had read of its end."""
        line = {one.version: one for one in await self.configurations()}
        for name in names:
            read = {}
            for entry in self.fleet.journal(name, "configuration"):
                read.setdefault(entry.detail["version"], entry.at)
            opened = self.rows(name, "SELECT version, last FROM load_opened ORDER BY version")
            assert opened
            for version, last in opened:
                later = [one for one in line.values() if one.version > version]
                ends = [max(one.active_from + one.grace, read[one.version]) for one in later if one.version in read]
                assert last <= min(ends, default=last), f"{name} opened something of version {version} too late"


@pytest.fixture
def talking(request, tmp_path):
    artifacts = compile_contracts(request.config.cache.mkdir("contracts"))
    with standing(Talking, tmp_path) as system:
        asyncio.run(_found(system, artifacts))
        yield system


async def _found(system, artifacts):
    owner = system.anvil.keys()[0]
    place = await deploy(system.anvil.url, system.anvil.chain_id, artifacts, owner, fee=1000)
    save_deployment(system.fleet.deployment, place)
    system.people()
    await system.appoint_rotator()
    system.fleet.start(*system.fleet.members)
    await system.fleet.enrol()
    await system.turn()


async def test_rotations__every_few_seconds_under_load__nothing_lost_and_sleepers_come_back(talking):
    system, fleet = talking, talking.fleet
    await system.talking(*TALKERS)
    awake, frozen, killed = TALKERS[:2], TALKERS[2], TALKERS[3]
    fleet.members[frozen].process.send_signal(signal.SIGSTOP)
    fleet.kill(killed)
    for number in range(6):
        version = await (system.turn(lead=1, grace=2) if number % 2 else system.turn())
        await system.knows(version, *awake)
        await system.talking(*awake)
    fleet.members[frozen].process.send_signal(signal.SIGCONT)
    fleet.start(killed)
    await system.knows(version, frozen, killed)
    missed = range(version - 4, version)
    assert not any(system.has_key(name, one) for name in (frozen, killed) for one in missed)
    await system.talking(*TALKERS)
    await system.hush(*TALKERS)
    system.check_nothing_missing(*TALKERS)
    await system.check_nothing_late(*TALKERS, "gateway")


async def test_rotations__device_switched_off_and_other_identities_named__the_others_go_on(talking):
    system, fleet = talking, talking.fleet
    await system.talking(*TALKERS)
    off, others = TALKERS[0], TALKERS[1:]
    version = (await system.configurations())[0].version
    await system.switch(off, active=False)
    await system.knows(version + 1, *others, "gateway")
    assert {"version": version + 1} == fleet.journal("oracle", "rotation-done")[-1].detail
    newest = (await system.configurations())[0]
    assert (newest.version, newest.grace, newest.gateway) == (version + 1, 0, fleet.members["gateway"].id)
    await system.talking(*others)

    system.named_oracle = "oracle-2"
    version = await system.turn(lead=1, grace=5)
    await system.knows(version, *others, "gateway")
    await system.talking(*others)
    fleet.kill("oracle")  # nobody needs it any more
    version = await system.turn()
    await system.knows(version, *others, "gateway")

    system.named_gateway = "gateway-2"
    version = await system.turn(lead=1, grace=5)
    await system.until(
        "they upload to the other gateway",
        lambda: all(fleet.status(name)["gateway"] == fleet.members["gateway-2"].id for name in others),
    )
    await system.talking(*others)
    assert not system.has_key(off, version)
    assert max(opened for (opened,) in system.rows(off, "SELECT version FROM load_opened")) < version - 2
    await system.hush(*others)
    system.check_nothing_missing(*others)
    await system.check_nothing_late(*others, "gateway", "gateway-2")
