"""The whole package against real contracts on a real node: what they say is what the replica knows."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from quietfleet.chain.agree import AgreeingSource
from quietfleet.chain.bell import Bell
from quietfleet.chain.consent import Consent
from quietfleet.chain.deployment import Deployment
from quietfleet.chain.follower import Follower
from quietfleet.chain.replica import Replica
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import ReleasesContract, Rotation, ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.chain.wallet import Wallet
from quietfleet.chain.watch import Watch
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.errors import ChainMismatch, ChainRejected, ChainUnavailable, TestbedError
from quietfleet.storage import Database
from quietfleet.testbed.anvil import Anvil, free_port
from quietfleet.testbed.contracts import deploy

FAR = 2**40
_numbers = itertools.count(1)


@contextlib.asynccontextmanager
async def serving(handler):
    async with await asyncio.start_server(handler, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a counter has no event to wait for
            await asyncio.sleep(0.01)


def device_key():
    return PrivateKey.from_bytes(keccak256(b"device %d" % next(_numbers)))


@pytest.fixture
async def client(anvil, deployment):
    async with ChainClient(anvil.url, deployment) as client:
        yield client


@pytest.fixture
def service_owner(client, service_owner_key):
    return Wallet(service_owner_key, client)


@pytest.fixture
def device_owner(client, device_owner_key):
    return Wallet(device_owner_key, client)


@pytest.fixture
def as_service_owner(client, service_owner):
    return ServiceContract(client, service_owner)


@pytest.fixture
def as_device_owner(client, device_owner):
    return ServiceContract(client, device_owner)


@pytest.fixture
def releases(client, service_owner):
    return ReleasesContract(client, service_owner)


@pytest.fixture
def replica(tmp_path):
    with Database(tmp_path / "worker.db") as database:
        yield Replica(database)


@pytest.fixture
def follower(client, replica, deployment):
    return Follower(client, replica, deployment)


@pytest.fixture
def consent(deployment, device_owner):
    def make(kind, owner=device_owner.address):
        return Consent.sign(
            device_key(), deployment.chain_id, deployment.service.address, owner=owner, kind=kind, deadline=FAR
        )

    return make


@pytest.fixture
def enrol(as_device_owner, consent):
    async def enrol(kind):
        signed = consent(kind)
        await as_device_owner.enrol(signed)
        return signed.id

    return enrol


async def test_replica__everything_a_worker_can_live_through__equals_the_contract(
    as_device_owner, as_service_owner, follower, replica, enrol
):
    ids = [await enrol(kind) for kind in Kind]
    sensor, processor, gateway, relay, _oracle = ids
    await as_device_owner.set_active([sensor, gateway], False)
    await as_device_owner.set_active([gateway], True)
    await as_service_owner.set_suspended(processor, True)
    await as_device_owner.offer_transfer(gateway, as_service_owner.address)
    await as_service_owner.accept_transfer(gateway)
    await as_device_owner.retire(relay)
    await follower.catch_up()
    for worker_id in ids:
        assert replica.worker(worker_id) == await as_service_owner.worker(worker_id)
    for a, b in itertools.product(ids, ids):
        assert replica.can_cooperate(a, b) == await as_service_owner.can_cooperate(a, b)
    await as_service_owner.set_suspended(processor, False)
    await follower.catch_up()
    assert replica.can_cooperate(processor, gateway)
    assert await as_service_owner.can_cooperate(processor, gateway)
    assert len(replica.workers()) == await as_service_owner.worker_count()


async def test_enrol_self__then_accepted__equals_the_contract(client, as_device_owner, anvil, follower, replica):
    secret = anvil.keys()[5]
    key = PrivateKey.from_bytes(secret)
    device = ServiceContract(client, Wallet(secret, client))
    await device.enrol_self(key.public.to_bytes(), Kind.SENSOR, as_device_owner.address)
    await follower.catch_up()
    assert replica.worker(key.public.id) == await device.worker(key.public.id)
    assert not replica.usable(key.public.id)
    await as_device_owner.accept(key.public.id)
    await follower.catch_up()
    assert replica.worker(key.public.id) == await device.worker(key.public.id)
    assert replica.usable(key.public.id)
    assert replica.public_key(key.public.id) == key.public.to_bytes()


async def test_rotate__waiting_ones_replaced__replica_says_what_the_contract_says(
    client, as_service_owner, service_owner, follower, replica
):
    now = (await client.header()).timestamp
    for wait in (0, 1000, 2000, 3000):
        rotation = Rotation(
            service_owner.address, b"\x01" * 32, b"\x02" * 32, active_from=now + wait if wait else 0, min_pow=0.25
        )
        await as_service_owner.rotate(rotation)
        await follower.catch_up()
        assert replica.configuration() == await as_service_owner.configuration()
    in_force = replica.configuration_at(now + 10)
    assert in_force.current == (await as_service_owner.configuration())[1]
    assert in_force.current.min_pow == 0.25
    assert replica.configuration_at(now + 3001).current.version == in_force.current.version + 3


async def test_releases__published_rolled_back_revoked__replica_says_what_the_contract_says(
    releases, follower, replica
):
    channel = keccak256(b"weather")
    await releases.publish(channel, b"\x01" * 32)
    await releases.publish(channel, b"\x02" * 32)
    await releases.roll_back(channel, 1)
    await releases.publish(channel, b"\x02" * 32)
    await releases.roll_back(channel, 3)
    await releases.revoke(channel, 2)
    await follower.catch_up()
    book = replica.releases(channel)
    assert len(book) == 5
    for release in book:
        assert release == await releases.release(channel, release.sequence)
    assert replica.current_release(channel) == await releases.current(channel)
    assert await releases.release(channel, 6) is None


async def test_send__contract_refuses__says_why(as_service_owner, enrol, service_owner):
    worker_id = await enrol(Kind.SENSOR)
    with pytest.raises(ChainRejected) as caught:
        await as_service_owner.set_active([worker_id], False)
    assert caught.value.error == "NotWorkerOwner"
    assert caught.value.arguments == {"id": worker_id, "caller": service_owner.address}
    assert f"caller={service_owner.address}" in str(caught.value)


async def test_send__consent_for_another_owner__is_refused(as_service_owner, consent):
    with pytest.raises(ChainRejected) as caught:
        await as_service_owner.enrol(consent(Kind.SENSOR))
    assert caught.value.error == "WrongSigner"


async def test_send__many_at_once__take_consecutive_nonces(as_device_owner, consent):
    receipts = await asyncio.gather(*(as_device_owner.enrol(consent(Kind.SENSOR)) for _ in range(5)))
    assert len({receipt.transaction for receipt in receipts}) == 5


async def test_follow__reorg_on_the_node__replica_follows(anvil, as_device_owner, follower, replica, enrol):
    kept = await enrol(Kind.SENSOR)
    await follower.catch_up()
    lost = await enrol(Kind.PROCESSOR)
    await as_device_owner.set_active([kept], False)
    await follower.catch_up()
    assert replica.usable(lost)
    assert not replica.usable(kept)
    anvil.request("anvil_reorg", 2, [])
    anvil.mine()
    changes = await follower.catch_up()
    assert {change.id for change in changes} == {kept, lost}
    assert replica.usable(kept)
    assert replica.worker(lost) is None
    assert replica.worker(kept) == await as_device_owner.worker(kept)


async def test_agreeing_source__one_node_twice__agrees(client, replica, deployment, enrol):
    worker_id = await enrol(Kind.GATEWAY)
    await Follower(AgreeingSource([client, client]), replica, deployment).catch_up()
    assert replica.usable(worker_id)


async def test_client__another_chain__refuses(anvil, deployment):
    elsewhere = Deployment(5, deployment.service, deployment.releases)
    async with ChainClient(anvil.url, elsewhere) as client:
        with pytest.raises(ChainMismatch):
            await client.header()


async def test_client__nothing_listens__is_unavailable(deployment):
    async with ChainClient(f"http://127.0.0.1:{free_port()}", deployment) as client:
        with pytest.raises(ChainUnavailable):
            await client.header()


async def test_client__endpoint_hangs__is_unavailable_in_time(deployment):
    released = asyncio.Event()

    async def hang(reader, writer):
        await released.wait()
        writer.close()
        await writer.wait_closed()

    async with serving(hang) as url, ChainClient(url, deployment, timeout=0.2) as client:
        with pytest.raises(ChainUnavailable):
            await client.header()
        released.set()


async def test_client__endpoint_talks_nonsense__is_unavailable(deployment):
    async def babble(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()
        await writer.wait_closed()

    async with serving(babble) as url, ChainClient(url, deployment) as client:
        with pytest.raises(ChainUnavailable):
            await client.header()


async def test_watch__bell_rings__change_comes_long_before_the_interval(anvil, follower, enrol):
    await follower.catch_up()
    async with Bell(anvil.ws_url) as bell:
        watch = aiter(Watch(follower, interval=60, bell=bell))
        coming = asyncio.ensure_future(anext(watch))
        await bell.wait(5)
        worker_id = await enrol(Kind.SENSOR)
        async with asyncio.timeout(5):
            assert [change.id for change in await coming] == [worker_id]
        await watch.aclose()


async def test_watch__node_dies_and_returns__goes_on(tmp_path, artifacts, replica):
    with Anvil(state=tmp_path / "state.json") as node:
        deployment = await deploy(node.url, node.chain_id, artifacts, node.keys()[0])
        async with ChainClient(node.url, deployment) as client, Bell(node.ws_url, reconnect=0.05) as bell:
            follower = Follower(client, replica, deployment)
            await follower.catch_up()
            watch = Watch(follower, interval=0.05, bell=bell, longest_wait=0.2)
            changes = aiter(watch)
            coming = asyncio.ensure_future(anext(changes))
            await asyncio.to_thread(node.stop)
            await until(lambda: watch.outages > 1)
            await asyncio.to_thread(node.start)
            owner = Wallet(node.keys()[0], client)
            key = device_key()
            consent = Consent.sign(
                key, node.chain_id, deployment.service.address, owner=owner.address, kind=Kind.SENSOR, deadline=FAR
            )
            await ServiceContract(client, owner).enrol(consent)
            async with asyncio.timeout(5):
                assert [change.id for change in await coming] == [key.public.id]
            await changes.aclose()
            assert isinstance(watch.last_error, ChainUnavailable)


async def test_follow__chain_begun_anew_under_the_same_address__rebuilds(tmp_path, artifacts, replica):
    port = free_port()
    with Anvil(port=port) as node:
        deployment = await deploy(node.url, node.chain_id, artifacts, node.keys()[0])
        node.mine(5)
        async with ChainClient(node.url, deployment) as client:
            await Follower(client, replica, deployment).catch_up()
    with Anvil(port=port) as node:
        node.request("evm_increaseTime", 100)
        assert await deploy(node.url, node.chain_id, artifacts, node.keys()[0]) == deployment
        async with ChainClient(node.url, deployment) as client:
            owner = Wallet(node.keys()[0], client)
            key = device_key()
            consent = Consent.sign(
                key, node.chain_id, deployment.service.address, owner=owner.address, kind=Kind.SENSOR, deadline=FAR
            )
            await ServiceContract(client, owner).enrol(consent)
            node.mine(5)
            follower = Follower(client, replica, deployment)
            await follower.catch_up()
    assert follower.rebuilds == 1
    assert [worker.id for worker in replica.workers()] == [key.public.id]


def test_anvil__port_taken__says_so(anvil):
    with pytest.raises(TestbedError):
        Anvil(port=anvil.port, chain_id=99).start()
