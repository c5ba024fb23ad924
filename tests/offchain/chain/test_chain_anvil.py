"""The whole package against real contracts on a real node: what they say is what the replica knows."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re

import msgspec
import pytest

from quietfleet.chain._http import Provider
from quietfleet.chain.agree import AgreeingSource
from quietfleet.chain.bell import Bell
from quietfleet.chain.bootstrap import bootstrap_digest, proven_bootstrap
from quietfleet.chain.channel import ChannelHead, ReleaseState, Report, Terms
from quietfleet.chain.configuration import configuration_digest, proven_configuration
from quietfleet.chain.consent import Consent
from quietfleet.chain.deployment import Deployment
from quietfleet.chain.follower import Follower
from quietfleet.chain.light_http import LightHttp
from quietfleet.chain.new_key import KeyProof
from quietfleet.chain.releases import ReleasesContract
from quietfleet.chain.replica import Replica
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import NOBODY, Rotation, ServiceContract
from quietfleet.chain.types import KeyUse, Kind, Right, WorkerRecord
from quietfleet.chain.wallet import Wallet
from quietfleet.chain.watch import Watch
from quietfleet.chain.waves import Place, group_root, wave_proof
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.crypto.consent import take_over_digest
from quietfleet.crypto.eip712 import ethereum_signature
from quietfleet.errors import (
    BootstrapUnproven,
    ChainMismatch,
    ChainRejected,
    ChainUnavailable,
    ConfigurationUnproven,
    TestbedError,
)
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
    async with asyncio.timeout(60):
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


@pytest.fixture
def new_key(deployment, device_owner):
    """Draws another messaging key for a worker, and its proof."""

    def new_key(worker, epoch):
        key = device_key()
        place = (deployment.chain_id, deployment.service.address)
        proof = KeyProof.sign(key, *place, worker=worker, owner=device_owner.address, epoch=epoch, deadline=FAR)
        return key, proof

    return new_key


@pytest.fixture
def now(client):
    async def now():
        return (await client.header()).timestamp

    return now


@pytest.fixture
def later(anvil):
    """Lets time on the chain pass."""

    def later(seconds):
        anvil.request("evm_increaseTime", seconds)
        anvil.mine()

    return later


def record(state):
    """What the contract knows of a worker, of all that the replica knows."""
    names = WorkerRecord.__struct_fields__
    return WorkerRecord(**{name: getattr(state, name) for name in names})


def rotation(**terms):
    return Rotation("0x" + "11" * 20, b"\x01" * 32, b"\x02" * 32, **terms)


def seen(configuration):
    """A configuration as the contract's events alone tell it."""
    return configuration and msgspec.structs.replace(configuration, keys_from=0)


async def test_replica__everything_a_worker_can_live_through__equals_the_contract(
    as_device_owner, as_service_owner, follower, replica, enrol, new_key
):
    ids = [await enrol(kind) for kind in Kind]
    sensor, processor, gateway, relay, oracle = ids
    keys = {worker: new_key(worker, 1) for worker in (sensor, oracle)}
    await as_device_owner.set_active([sensor, gateway], False)
    await as_device_owner.set_active([gateway], True)
    await as_service_owner.set_suspended(processor, True)
    await as_device_owner.offer_transfer(gateway, as_service_owner.address)
    await as_service_owner.accept_transfer(gateway)
    await as_device_owner.offer_transfer(oracle, as_service_owner.address)
    await as_device_owner.cancel_transfer(oracle)
    await as_device_owner.rotate_keys([proof for _, proof in keys.values()])
    await as_device_owner.offer_transfer(sensor, as_service_owner.address)
    await as_device_owner.offer_transfer(relay, as_service_owner.address)
    await as_device_owner.retire(relay)
    await follower.catch_up()
    for worker_id in ids:
        assert record(replica.worker(worker_id)) == await as_service_owner.worker(worker_id)
    for worker_id, (key, _) in keys.items():
        assert (replica.worker(worker_id).key, replica.worker(worker_id).public_key) == (
            key.public.id,
            key.public.to_bytes(),
        )
    assert {worker: replica.worker(worker).offered_to for worker in ids} == {
        **dict.fromkeys(ids),
        sensor: as_service_owner.address,
    }
    for a, b in itertools.product(ids, ids):
        assert replica.can_cooperate(a, b) == await as_service_owner.can_cooperate(a, b)
    await as_service_owner.set_suspended(processor, False)
    await follower.catch_up()
    assert replica.can_cooperate(processor, gateway)
    assert await as_service_owner.can_cooperate(processor, gateway)


async def test_enrol_self__then_accepted__equals_the_contract(client, as_device_owner, anvil, follower, replica):
    secret = anvil.keys()[5]
    key = PrivateKey.from_bytes(secret)
    device = ServiceContract(client, Wallet(secret, client))
    await device.enrol_self(key.public.to_bytes(), Kind.SENSOR, as_device_owner.address)
    await follower.catch_up()
    assert record(replica.worker(key.public.id)) == await device.worker(key.public.id)
    assert not replica.usable(key.public.id)
    await as_device_owner.accept(key.public.id)
    await follower.catch_up()
    assert record(replica.worker(key.public.id)) == await device.worker(key.public.id)
    assert replica.usable(key.public.id)
    assert replica.worker(key.public.id).public_key == key.public.to_bytes()


async def test_enrol_batch__three_consents__three_workers_for_three_fees(
    client, deployment, as_device_owner, consent, follower, replica
):
    balance = ("eth_getBalance", deployment.service.address, "latest")
    before = int(await client.request(*balance), 16)
    signed = [consent(Kind.SENSOR) for _ in range(3)]
    await as_device_owner.enrol_batch(signed)
    await follower.catch_up()
    assert all(replica.usable(one.id) for one in signed)
    assert int(await client.request(*balance), 16) == before + 3 * await as_device_owner.fee()


async def test_rotate_keys__one_after_another__every_key_is_the_workers_and_the_newest_current(
    as_device_owner, follower, replica, enrol, new_key
):
    worker = await enrol(Kind.SENSOR)
    keys = [worker]
    for epoch in (1, 2):
        key, proof = new_key(worker, epoch)
        keys.append(key.public.id)
        await as_device_owner.rotate_keys([proof])
    await follower.catch_up()
    for epoch, key in enumerate(keys):
        assert replica.worker_of(key) == KeyUse(worker, epoch, epoch == 2)
        assert await as_device_owner.worker_of(key) == KeyUse(worker, epoch, epoch == 2)
    nobody = device_key().public.id
    assert replica.worker_of(nobody) is None
    assert await as_device_owner.worker_of(nobody) is None


async def test_rotate_keys__proof_for_another_epoch__is_refused(as_device_owner, enrol, new_key):
    worker = await enrol(Kind.SENSOR)
    _, proof = new_key(worker, 2)
    with pytest.raises(ChainRejected) as caught:
        await as_device_owner.rotate_keys([proof])
    assert caught.value.error == "WrongSigner"


async def test_transfer_signed__recipient_agreed__device_passes_on_once(
    client, deployment, as_device_owner, service_owner, service_owner_key, enrol
):
    worker = await enrol(Kind.SENSOR)
    recipient = PrivateKey.from_bytes(service_owner_key)
    terms = (deployment.chain_id, deployment.service.address, worker, as_device_owner.address, 1, FAR)
    signature = ethereum_signature(recipient.sign(take_over_digest(*terms)))
    await as_device_owner.transfer_signed(worker, service_owner.address, FAR, signature)
    assert (await as_device_owner.worker(worker)).owner == service_owner.address
    back = ServiceContract(client, service_owner)
    with pytest.raises(ChainRejected) as caught:
        await back.transfer_signed(worker, as_device_owner.address, FAR, signature)
    assert caught.value.error == "NotAgreed"


async def test_set_operator__may_switch_off_until_its_time__then_no_more(
    as_device_owner, as_service_owner, enrol, now, later
):
    worker = await enrol(Kind.SENSOR)
    until = await now() + 100
    await as_device_owner.set_operator(as_service_owner.address, Right.SWITCH_OFF, until)
    await as_service_owner.set_active([worker], False)
    for right_is_missing in (True, False):
        with pytest.raises(ChainRejected) as caught:
            await as_service_owner.set_active([worker], right_is_missing)
        assert caught.value.error == "NotWorkerOwner"
        await as_device_owner.set_active([worker], True) if right_is_missing else None
        later(101)


async def test_rotate__waiting_ones_replaced__replica_says_what_the_contract_says(
    as_service_owner, follower, replica, now, later
):
    began = await now()
    for wait in (0, 1000, 2000, 3000):
        await as_service_owner.rotate(rotation(active_from=began + wait if wait else 0, min_pow=0.25))
        await follower.catch_up()
        assert tuple(map(seen, replica.configuration())) == await as_service_owner.configuration()
    latest, in_force = replica.configuration()
    assert latest.version == in_force.version + 3
    later(4000)
    await as_service_owner.rotate(rotation(min_pow=0.25))
    await follower.catch_up()
    assert tuple(map(seen, replica.configuration())) == await as_service_owner.configuration()
    assert replica.configuration()[1] == latest
    later(61)


async def test_rotate_at_once__one_waits__it_is_cancelled_and_nothing_is_tolerated(
    as_service_owner, follower, replica, now
):
    await as_service_owner.rotate_at_once(rotation())
    in_force = (await as_service_owner.configuration())[0]
    await as_service_owner.rotate(rotation(active_from=await now() + 500, grace=600))
    receipt = await as_service_owner.rotate_at_once(rotation(active_from=77, grace=600))
    await follower.catch_up()
    latest, previous = replica.configuration()
    assert (seen(latest), seen(previous)) == await as_service_owner.configuration()
    assert seen(previous) == in_force
    assert (latest.active_from, latest.grace) == (await now(), 0)
    assert (await as_service_owner.anchor()).newest_block == receipt.block


async def test_rotate__keeping_the_keys__only_the_work_changes_and_the_epoch_stays(as_service_owner, follower, replica):
    await as_service_owner.rotate_at_once(rotation(max_ttl=77, min_pow=0.25))
    before = (await as_service_owner.configuration())[0]
    await as_service_owner.rotate_at_once(Rotation.keeping(before, min_pow=1.5))
    await follower.catch_up()
    latest, previous = replica.configuration()
    assert latest.epoch == previous.epoch
    assert latest.shares_keys(before)
    assert (latest.min_pow, latest.max_ttl, latest.max_size) == (1.5, 77, before.max_size)
    assert (seen(latest), seen(previous)) == await as_service_owner.configuration()


async def test_configuration__digest__is_the_contracts(client, deployment, as_service_owner):
    await as_service_owner.rotate_at_once(rotation(min_pow=0.123456789))
    latest, _ = await as_service_owner.configuration()
    values = msgspec.structs.astuple(latest)[:-1]
    scaled = (*values[:3], 123_456_789, *values[4:])
    (digest,) = await client.call(deployment.service, "digestOf", (scaled,))
    assert configuration_digest(latest, deployment.chain_id, deployment.service.address) == digest
    assert (await as_service_owner.anchor()).digest == digest


async def test_configuration__event_is_not_what_the_contract_vouches_for__unproven(client, as_service_owner):
    await as_service_owner.rotate_at_once(rotation())
    anchor = await as_service_owner.anchor()
    with pytest.raises(ConfigurationUnproven, match="another digest"):
        await proven_configuration(client, anchor.version, anchor.newest_block, bytes(32))
    with pytest.raises(ConfigurationUnproven, match="no event"):
        await proven_configuration(client, anchor.version + 1, anchor.newest_block, anchor.digest)
    with pytest.raises(ConfigurationUnproven, match="no event"):
        await proven_configuration(client, anchor.version, anchor.newest_block - 1, anchor.digest)


async def test_history__walked_backwards__has_every_version_as_the_replica_has(
    as_service_owner, follower, replica, now
):
    await as_service_owner.rotate_at_once(rotation())
    await as_service_owner.rotate(rotation(active_from=await now() + 300))
    await as_service_owner.rotate(rotation(active_from=await now() + 400))
    await follower.catch_up()
    walked = [one async for one in as_service_owner.history()]
    assert walked == replica.history()
    assert [one.version for one in walked] == list(range(len(walked), 0, -1))
    await as_service_owner.rotate_at_once(rotation())


async def test_configuration__none_yet__is_none_and_has_no_history(tmp_path, artifacts):
    with Anvil() as node:
        deployment = await deploy(node.url, node.chain_id, artifacts, node.keys()[0])
        async with ChainClient(node.url, deployment) as client:
            service = ServiceContract(client)
            assert await service.configuration() == (None, None)
            assert [one async for one in service.history()] == []


async def test_set_pow_bounds__rotation_beyond_them__is_refused(as_service_owner):
    await as_service_owner.set_pow_bounds(0.1, 0.5)
    with pytest.raises(ChainRejected) as caught:
        await as_service_owner.rotate_at_once(rotation(min_pow=0.6))
    assert caught.value.error == "BadMinPow"
    await as_service_owner.rotate_at_once(rotation(min_pow=0.5))
    await as_service_owner.set_pow_bounds(1e-9, 1000.0)


async def test_set_rotator__may_rotate__and_nobody_else(as_service_owner, as_device_owner):
    with pytest.raises(ChainRejected) as caught:
        await as_device_owner.rotate_at_once(rotation())
    assert caught.value.error == "NotRotator"
    await as_service_owner.set_rotator(as_device_owner.address)
    await as_device_owner.rotate_at_once(rotation())
    await as_service_owner.set_rotator(NOBODY)


async def test_set_bootstrap__named_and_taken_back__contract_and_replica_agree(
    client, deployment, as_service_owner, follower, replica
):
    first, second = ([f"enode://{byte * 64}@relay.example:30303"] for byte in ("ab", "cd"))
    for enodes in (first, first + second):
        await as_service_owner.set_bootstrap(enodes)
        await follower.catch_up()
        assert await as_service_owner.bootstrap() == replica.bootstrap() == tuple(enodes)
    version, block, digest = await client.call(deployment.service, "bootstrap", ())
    assert digest == bootstrap_digest(first + second)
    with pytest.raises(BootstrapUnproven, match="another digest"):
        await proven_bootstrap(client, version, block, bytes(22))
    with pytest.raises(BootstrapUnproven, match="no event"):
        await proven_bootstrap(client, version, block - 1, digest)
    await as_service_owner.set_bootstrap([])
    await follower.catch_up()
    assert await as_service_owner.bootstrap() == replica.bootstrap() == ()


async def test_set_bootstrap__not_the_service_owner__is_refused(as_device_owner):
    with pytest.raises(ChainRejected, match="OwnableUnauthorizedAccount"):
        await as_device_owner.set_bootstrap([])


async def test_fee__announced__in_force_after_a_day_and_below_the_cap(as_service_owner, later):
    was = await as_service_owner.fee()
    await as_service_owner.announce_fee(was + 1)
    await as_service_owner.cancel_fee()
    await as_service_owner.announce_fee(was + 2)
    with pytest.raises(ChainRejected) as caught:
        await as_service_owner.apply_fee()
    assert caught.value.error == "OutsideFeeWindow"
    later(86_400)
    await as_service_owner.apply_fee()
    assert await as_service_owner.fee() == was + 2
    await as_service_owner.lower_fee_cap(was + 5)
    with pytest.raises(ChainRejected) as caught:
        await as_service_owner.announce_fee(was + 6)
    assert caught.value.error == "FeeAboveCap"


async def test_set_paused__enrolment_stops__owner_control_does_not(as_service_owner, as_device_owner, enrol, consent):
    worker = await enrol(Kind.SENSOR)
    await as_service_owner.set_paused(True)
    with pytest.raises(ChainRejected) as caught:
        await as_device_owner.enrol(consent(Kind.SENSOR))
    assert caught.value.error == "EnrolmentPaused"
    await as_device_owner.set_active([worker], False)
    await as_service_owner.set_paused(False)
    await as_device_owner.enrol(consent(Kind.SENSOR))


async def test_name_successor__service_moves__everybody_can_read_where(client, deployment, as_service_owner):
    await as_service_owner.name_successor(deployment.releases.address)
    assert await client.call(deployment.service, "successor") == (deployment.releases.address,)


@pytest.fixture
async def publishing(releases, enrol, service_owner):
    """The service owner approves, and publishes for a gateway of the fleet; returns a channel of its own."""
    await releases.set_publisher(service_owner.address, await enrol(Kind.GATEWAY))
    return keccak256(b"channel %d" % next(_numbers))


@pytest.fixture
def terms(now):
    async def terms(number, *, root=b"\x07" * 32, waves=1):
        began = await now()
        return Terms(bytes([number]) * 32, root, b"\x08" * 32, began, began + 10_000, 0, waves)

    return terms


@pytest.fixture
def walk(releases, publishing, terms):
    """Takes a new manifest from proposal to completion."""

    async def walk(sequence, number):
        await releases.propose(publishing, await terms(number))
        await releases.approve(publishing, sequence, bytes([number]) * 32)
        await releases.open_wave(publishing, sequence)
        await releases.finalise(publishing, bytes([number]) * 32, 0, Report(3, 1, 2))

    return walk


async def test_releases__everything_a_channel_can_live_through__replica_says_what_the_contract_says(
    releases, follower, replica, publishing, terms, walk
):
    channel = publishing

    async def same():
        await follower.catch_up()
        known = replica.channel(channel)
        assert known.head == await releases.head(channel)
        for number in range(1, 8):
            assert known.record(bytes([number]) * 32) == await releases.release(channel, bytes([number]) * 32)
        return known

    assert (await same()).head == ChannelHead()
    await walk(1, 1)
    await same()
    await releases.propose(channel, await terms(2))
    await releases.propose(channel, await terms(3, waves=2))
    assert (await same()).current().sequence == 1
    for step in ("approve", "open_wave", "pause", "resume", "open_wave"):
        await getattr(releases, step)(channel, 3, *[b"\x03" * 32] * (step == "approve"))
        await same()
    await releases.finalise(channel, b"\x03" * 32, 2, Report(0, 0, 0))
    assert (await same()).current().sequence == 3
    await walk(4, 4)
    await releases.roll_back(channel, b"\x03" * 32)
    assert (await same()).current().manifest_hash == b"\x03" * 32
    await releases.revoke(channel, b"\x07" * 32)
    await releases.revoke(channel, b"\x04" * 32)
    assert (await same()).current().sequence == 5
    await releases.revoke(channel, b"\x03" * 32)
    known = await same()
    assert (known.head.state, known.head.floor, known.current()) == (ReleaseState.REVOKED, 6, None)
    await walk(6, 5)
    assert (await same()).current().sequence == 6


async def test_waves__proofs_of_an_odd_group__contract_admits_each_place_in_its_wave_alone(releases, publishing, terms):
    places = [Place(keccak256(b"p%d" % n), n % 2 + 1, b"\x05" * 32, keccak256(b"s%d" % n)) for n in range(5)]
    offered = await terms(5, root=group_root(places), waves=2)
    await releases.propose(publishing, offered)
    await releases.approve(publishing, 1, offered.manifest_hash)
    await releases.open_wave(publishing, 1)

    async def admitted():
        return [await releases.admits(publishing, offered, wave_proof(places, index)) for index in range(5)]

    assert await admitted() == [place.wave == 1 for place in places]
    await releases.open_wave(publishing, 1)
    assert await admitted() == [True] * 5
    other = wave_proof([*places[:4], Place(b"\x01" * 32, 1, b"\x05" * 32, bytes(32))], 4)
    assert not await releases.admits(publishing, offered, other)
    moved = msgspec.structs.replace(wave_proof(places, 0), index=1)
    assert not await releases.admits(publishing, offered, moved)


async def test_waves__one_place__its_leaf_is_the_root(releases, publishing, terms):
    places = [Place(b"\x01" * 32, 1, b"\x06" * 32, b"\x02" * 32)]
    offered = await terms(6, root=group_root(places))
    await releases.propose(publishing, offered)
    await releases.approve(publishing, 1, offered.manifest_hash)
    assert not await releases.admits(publishing, offered, wave_proof(places, 0))
    await releases.open_wave(publishing, 1)
    assert await releases.admits(publishing, offered, wave_proof(places, 0))


async def test_releases__roles__as_named(releases, publishing, service_owner, as_device_owner):
    assert await releases.approver() == service_owner.address
    assert await releases.gateway_of(as_device_owner.address) is None
    gateway = await releases.gateway_of(service_owner.address)
    await releases.set_publisher(service_owner.address, NOBODY)
    assert await releases.gateway_of(service_owner.address) is None
    await releases.set_publisher(service_owner.address, gateway)
    await releases.set_approver(as_device_owner.address)
    assert await releases.approver() == as_device_owner.address
    await releases.set_approver(service_owner.address)


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
    assert record(replica.worker(kept)) == await as_device_owner.worker(kept)


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


async def test_client__requests_cancelled_at_any_moment__the_next_one_is_answered(client):
    assert await client.header()
    for moments in range(40):
        asking = asyncio.create_task(client.header())
        for _ in range(moments):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    async with asyncio.timeout(60):
        assert await client.header()


@pytest.mark.parametrize("transport", [LightHttp, Provider])
async def test_client__endpoint_closes_kept_connections__asked_again_but_nothing_is_sent_twice(deployment, transport):
    asked = []

    async def answer_once(reader, writer):
        for keep in (True, False):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
            request = json.loads(await reader.readexactly(length))
            asked.append(request["method"])
            if not keep:
                break
            body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": hex(deployment.chain_id)}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()
        await writer.wait_closed()

    async with serving(answer_once) as url, ChainClient(url, deployment, transport=transport) as client:
        assert await client.request("eth_chainId") == hex(deployment.chain_id)
        assert asked == ["eth_chainId"] * 3, "the check; the question, unheard; the question again"
        with pytest.raises(ChainUnavailable):
            await client.request("eth_sendRawTransaction", "0x00")
        assert asked.count("eth_sendRawTransaction") == 1


@pytest.mark.parametrize("transport", [LightHttp, Provider])
async def test_client__answer_without_end__is_given_up(deployment, monkeypatch, transport):
    monkeypatch.setattr(f"{transport.__module__}.LONGEST", 10_000)

    async def flood(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" " * 1000)
                await writer.drain()
        writer.close()

    async with serving(flood) as url, ChainClient(url, deployment, transport=transport) as client:
        with pytest.raises(ChainUnavailable, match="more than 10000"):
            await client.header()


@pytest.mark.parametrize("transport", [LightHttp, Provider])
async def test_client__endpoint_talks_nonsense__is_unavailable(deployment, transport):
    async def babble(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()
        await writer.wait_closed()

    async with serving(babble) as url, ChainClient(url, deployment, transport=transport) as client:
        with pytest.raises(ChainUnavailable):
            await client.header()


async def test_watch__bell_rings__change_comes_long_before_the_interval(anvil, follower, enrol):
    await follower.catch_up()
    async with Bell(anvil.ws_url) as bell:
        watch = aiter(Watch(follower, interval=3600, bell=bell))
        coming = asyncio.ensure_future(anext(watch))
        await bell.wait(60)
        worker_id = await enrol(Kind.SENSOR)
        async with asyncio.timeout(60):
            assert [change.id for change in await coming] == [worker_id]
        await watch.aclose()


async def test_bell__socket_drops_again_and_again__rings_again_each_time(anvil):
    links = set()

    async def carry(reader, writer):
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", anvil.port)
        links.update({writer, onward_writer})

        async def pump(source, sink):
            with contextlib.suppress(OSError):
                while data := await source.read(65_536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, onward_writer), pump(onward_reader, writer))

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with Bell(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", reconnect=0.02) as bell:
        await until(lambda: bell.rings > 0)
        for drops in range(3):
            rung = bell.rings
            await asyncio.to_thread(anvil.mine)
            await until(lambda rung=rung: bell.rings > rung)
            rung = bell.rings
            while links:
                links.pop().transport.abort()
            await until(lambda rung=rung: bell.rings > rung)
            assert bell.outages == drops + 1
    server.close()


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
            async with asyncio.timeout(60):
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
