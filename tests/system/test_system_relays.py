"""A sensor without an endpoint, in its own small build, sees the chain by relays of two owners; one of them lies."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from system_fleet import MAX_AGE, START

from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey
from quietfleet.network import Address, Enode
from quietfleet.testbed.anvil import MNEMONIC, Anvil, free_port, key_of
from quietfleet.testbed.bare import only
from quietfleet.testbed.contracts import ROOT
from quietfleet.testbed.fleet import EVERYBODY, SITE, write_readings

DAY = 86_400.0
SENSOR, RELAY = "sensor-bare", "relay-elsewhere"
HONEST, LIAR, OWNER = 11, 16, 17  # whose accounts: relay-1's, the other relay's, the sensor's
DISAGREED = 'quietfleet_chain_disagreements_total{by="relays"}'
WATCHED = 3.0  # seconds


class Endpoint:
    """An address that leads to one chain, and later to another: whose relay asks there is shown that one."""

    def __init__(self, port):
        self.leads_to, self.port, self._open = port, free_port(), set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def turn(self, port):
        self.leads_to = port
        for writer in self._open:
            writer.close()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.turn(self.leads_to)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        with contextlib.suppress(OSError):
            there, onwards = await asyncio.open_connection("127.0.0.1", self.leads_to)
            self._open |= {writer, onwards}
            await asyncio.gather(_pass(reader, onwards), _pass(there, writer))
            self._open -= {writer, onwards}


async def _pass(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


def address(account):
    return PrivateKey.from_bytes(key_of(MNEMONIC, account)).public.id


def add_relay(fleet, endpoint, beside):
    key = PrivateKey.generate(fleet.random)
    enode = Enode(key.public.to_bytes(), Address("127.0.0.1", free_port()))
    network = {"listen": str(enode.address), "peers": [beside], "max_per_address": EVERYBODY}
    chain = {"rpc": endpoint.url, "poll": 0.3, "max_age": MAX_AGE}
    fleet.add(RELAY, Kind.RELAY, owner=LIAR, key=key, network=network, chain=chain)
    return str(enode)


def add_sensor(fleet, relays):
    """A sensor of its own build, which has no endpoint."""
    chain = {"rpc": "relays", "poll": 0.5, "max_age": MAX_AGE}
    chain["relays"] = [f"{owner}={enode}" for owner, enode in relays.items()]
    member = fleet.add(
        SENSOR,
        Kind.SENSOR,
        owner=OWNER,
        program=("quietfleet.testbed.bare", "sensor"),
        network={"peers": list(relays.values()), "ttl": 20, "cover_rate": 8.0, "hop_delay": 0.03},
        chain=chain,
        sensor={"site": SITE, "replay": "readings.csv", "send_every": 0.5},
    )
    member.environment = only(ROOT / "requirements" / "sensor.txt")
    write_readings(member.folder / "readings.csv", "EWR", START, START + 200 * DAY)


@pytest.fixture
async def by_relays(flowing):
    """The fleet, a relay whose endpoint may be turned, and a sensor that has these two owners' word alone."""
    system, fleet = flowing, flowing.fleet
    async with Endpoint(system.anvil.port) as endpoint:
        beside = system.relays[0]
        elsewhere = add_relay(fleet, endpoint, beside)
        add_sensor(fleet, {address(HONEST): beside, address(LIAR): elsewhere})
        await fleet.enrol([RELAY, SENSOR])
        fleet.start(RELAY)
        try:
            await system.until("the relay runs", lambda: fleet.status(RELAY).get("block") is not None)
            fleet.start(SENSOR)
            yield system, endpoint
        finally:
            for name in (SENSOR, RELAY):
                if fleet.members[name].running:
                    system.terminate(name)
                fleet.members.pop(name)


async def test_relay_lies__sensor_without_an_endpoint__works_with_nobody_until_both_owners_agree_again(by_relays):
    system, endpoint = by_relays
    fleet = system.fleet
    await system.until("it is answered", lambda: system.answers(SENSOR))
    assert fleet.metric(SENSOR, DISAGREED) == 0
    with Anvil(block_time=1, accounts=20, fork=system.anvil.url, log=fleet.folder / "fork.log") as other:
        other.request("anvil_setBalance", "0x" + "11" * 20, hex(1))  # a state that never was
        other.mine()
        endpoint.turn(other.port)
        turned = time.time()
        await system.until("the relay shows the other chain", lambda: _shows(system, other))
        await system.until("it notices", lambda: fleet.metric(SENSOR, DISAGREED) > 0)
        await system.until("it trusts nobody", lambda: fleet.status(SENSOR)["stale"])
        blind = time.time()
        assert "different chains" in fleet.status(SENSOR)["chain"]
        await system.until("a while in the dark", lambda: time.time() >= blind + WATCHED)
        assert system.answers(SENSOR, blind + 0.5) == []
        believed = fleet.status(SENSOR)["block"]
        assert believed <= int(system.anvil.request("eth_blockNumber"), 16) - int(WATCHED) + 1
        assert blind - turned >= MAX_AGE - 3, "nobody stops before the limit"
        endpoint.turn(system.anvil.port)
    await system.until("it sees again", lambda: not fleet.status(SENSOR)["stale"])
    again = time.time()
    await system.until("it is answered again", lambda: system.answers(SENSOR, again))
    await system.flowing()


def _shows(system, chain):
    """Whether the relay has taken a block in that only the other chain has."""
    known = system.fleet.status(RELAY)["block"]
    ours, theirs = (one.request("eth_getBlockByNumber", hex(known), False) for one in (system.anvil, chain))
    return theirs is not None and (ours is None or ours["hash"] != theirs["hash"])
