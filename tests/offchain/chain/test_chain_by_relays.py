"""The chain as relays show it: real nodes on links in memory; some relays lie, and some are asked too much."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_chain import DEPLOYMENT, MemoryChain, key, worker_id

from quietfleet.chain.endpoints import Endpoints
from quietfleet.chain.follower import Follower
from quietfleet.chain.replica import Replica
from quietfleet.crypto import PrivateKey, checksum_address
from quietfleet.errors import ChainDisagreement, ChainUnavailable, SettingsError, WireError
from quietfleet.metrics import Metrics
from quietfleet.network import ChainAsking, ChainServing, EmbeddedNode, ShowingLimits
from quietfleet.network.chainwire import ASK_CHAIN, CHAIN, ChainAnswer, ChainAsk, Verdict, What, read_header, read_logs
from quietfleet.network.link import STEM, Message
from quietfleet.settings import ChainSection
from quietfleet.storage import Database
from quietfleet.testbed.memory_links import LoopClock, Memory, VirtualLoop, Wire
from quietfleet.whisper import Rules
from quietfleet.workers._view import vouched

ALICE, BOB, CAROL = (checksum_address(bytes([number]) * 20) for number in (1, 2, 3))
MAX_AGE = 60.0


class Owners:
    """What the registry says of relays' keys."""

    def __init__(self):
        self.names = {}

    def owner_of(self, address):
        return self.names.get(address)

    def relays(self):
        return len(self.names)


class World:
    """Relays that show a chain each, and a sensor that has none."""

    def __init__(self, folder):
        self.rng, self.clock, self.owners = random.Random(1), LoopClock(), Owners()
        self.memory, self.nodes = Memory(Wire(latency=lambda: 0.02)), []
        self.database = Database(folder / "sensor.db")
        self.replica = Replica(self.database)
        self.relays = []
        self.metrics = Metrics()
        self.asking = ChainAsking(self.owners, self.metrics, self.rng.randbytes)

    async def relay(self, owner, chain, limits=None, service=None):
        node = self._node(listen="m:0")
        node.serving = service or ChainServing(chain, node.metrics, self.clock, limits)
        node.add(node.serving)
        await node.start()
        self.relays.append((owner, node))
        return node

    async def sensor(self):
        """Start a sensor that knows these relays, and return what it reads the chain by."""
        node = self._node(peers=[str(relay.enode) for _, relay in self.relays])
        node.add(self.asking)
        await node.start()
        await self.linked(node, len(self.relays))
        by_owner = {}
        for owner, relay in self.relays:
            by_owner.setdefault(owner, []).append(relay.node_id)
        sources = [self.asking.source(owner, ids) for owner, ids in by_owner.items()]
        self.endpoints = Endpoints(sources, self.clock, MAX_AGE, agreeing=2)
        self.follower = Follower(self.endpoints, self.replica, DEPLOYMENT)
        return node

    async def linked(self, node, count):
        while len(node.connected_peers) < count:  # noqa: ASYNC110 - under virtual time, and nodes do not say
            await asyncio.sleep(0.01)

    async def end(self):
        await asyncio.gather(*(node.stop() for node in self.nodes))
        self.database.close()

    def _node(self, listen=None, peers=()):
        metrics, identity = Metrics(), PrivateKey(self.rng.randbytes(32))
        node = EmbeddedNode(
            listen=listen,
            peers=list(peers),
            rules=Rules(),
            metrics=metrics,
            clock=self.clock,
            rng=self.rng,
            links=self.memory.links(identity.public.to_bytes()),
            directory=self.owners,
        )
        node.metrics, node.key = metrics, identity.public.id
        self.nodes.append(node)
        return node


@pytest.fixture
def virtually(tmp_path):
    def tell(story):
        async def whole():
            world = World(tmp_path)
            try:
                await story(world)
            finally:
                await world.end()

        loop = VirtualLoop()
        try:
            loop.run_until_complete(whole())
        finally:
            loop.close()

    return tell


def chain_with(*actions):
    chain = MemoryChain()
    chain.extend(*actions)
    return chain


def beside(chain):
    """Another endpoint of the same chain."""
    other = MemoryChain()
    other.blocks = chain.blocks
    return other


def forked(chain):
    """An endpoint that goes on with blocks of its own."""
    other = MemoryChain()
    other.blocks = list(chain.blocks)
    other._salt = 1000
    return other


def test_follow__relays_of_two_owners_agree__the_registry_is_read_as_by_an_endpoint(virtually):
    async def story(world):
        chain = chain_with(("enrol", 1), ("enrol", 2))
        for _ in range(80):
            chain.extend()
        chain.extend(("toggle", 2))
        await world.relay(ALICE, chain)
        await world.relay(BOB, beside(chain))
        await world.sensor()
        await world.follower.catch_up()
        assert world.replica.head.hash == chain.blocks[-1].header.hash
        assert world.replica.usable(worker_id(1))
        assert not world.replica.usable(worker_id(2))
        chain.extend(("toggle", 1))
        await asyncio.sleep(2)
        await world.follower.catch_up()
        assert not world.replica.usable(worker_id(1))

    virtually(story)


def test_follow__one_relay_withholds_a_switch_off__nothing_new_is_believed_and_it_goes_stale(virtually):
    async def story(world):
        chain = chain_with(("enrol", 1))
        liar = beside(chain)
        await world.relay(ALICE, chain)
        await world.relay(BOB, liar)
        await world.sensor()
        await world.follower.catch_up()
        known = world.replica.head
        chain.extend(("toggle", 1))
        liar.hidden_logs.add(chain.height)
        liar.hidden_by_hash = True
        await asyncio.sleep(2)
        with pytest.raises(ChainDisagreement) as seen:
            await world.follower.catch_up()
        assert not world.endpoints.failed(seen.value), "a third must not decide whom to believe"
        assert world.replica.head == known
        assert world.replica.is_stale(known.timestamp + MAX_AGE + 1, MAX_AGE)

    virtually(story)


def test_follow__one_relay_makes_up_an_enrolment__it_is_not_believed(virtually):
    async def story(world):
        chain = chain_with(("enrol", 1))
        liar = forked(chain)
        await world.relay(ALICE, chain)
        await world.relay(BOB, liar)
        await world.sensor()
        await world.follower.catch_up()
        chain.extend()
        liar.extend(("enrol", 7))
        await asyncio.sleep(2)
        with pytest.raises(ChainDisagreement):
            await world.follower.catch_up()
        assert world.replica.worker(worker_id(7)) is None

    virtually(story)


def test_follow__one_relay_stands_still__no_newer_block_counts(virtually):
    async def story(world):
        chain = chain_with(("enrol", 1))
        slow = beside(chain)
        slow.visible = chain.height
        await world.relay(ALICE, chain)
        await world.relay(BOB, slow)
        await world.sensor()
        await world.follower.catch_up()
        for _ in range(5):
            chain.extend()
        await asyncio.sleep(2)
        await world.follower.catch_up()
        assert world.replica.head.number == slow.visible, "one voice alone moves nothing: it goes stale"

    virtually(story)


def test_follow__only_relays_of_one_owner_answer__nothing_is_read(virtually):
    async def story(world):
        chain = chain_with(("enrol", 1))
        await world.relay(ALICE, chain)
        await world.relay(ALICE, chain)
        gone = await world.relay(BOB, chain)
        await world.sensor()
        await gone.stop()
        await asyncio.sleep(1)
        with pytest.raises(ChainUnavailable):
            await world.follower.catch_up()
        assert world.replica.head is None

    virtually(story)


def test_follow__the_registry_gives_both_relays_to_one_owner__they_are_one_voice(virtually):
    async def story(world):
        chain = chain_with(("enrol", 1))
        await world.relay(ALICE, chain)
        other = await world.relay(BOB, chain)
        await world.sensor()
        world.owners.names[other.key] = ALICE
        with pytest.raises(ChainUnavailable):
            await world.follower.catch_up()
        assert world.metrics.value("chain_relays_unused", reason="another owner's") > 0

    virtually(story)


def test_ask__a_flood_of_questions_from_one_link__others_are_answered_and_the_endpoint_is_spared(virtually):
    async def story(world):
        chain = chain_with(("enrol", 1))
        limits = ShowingLimits(each=(10.0, 20.0), everyone=(20.0, 20.0))
        relay = await world.relay(ALICE, chain, limits)
        await world.relay(BOB, beside(chain))
        attacker = world._node(peers=[str(relay.enode)])
        flooding = ChainAsking(world.owners, Metrics(), world.rng.randbytes, patience=1.0)
        attacker.add(flooding)
        await attacker.start()
        await world.linked(attacker, 1)
        (link,) = attacker.connected_peers
        for number in range(500):
            link.post(ChainAsk(world.rng.randbytes(8), What.HEADER, number, number).encode())
        await world.sensor()
        await world.follower.catch_up()
        assert world.replica.usable(worker_id(1))
        assert relay.metrics.value("chain_questions_refused", reason="over_quota") >= 400
        assert relay.metrics.value("chain_shown", how="asked") < 100

    virtually(story)


def test_ask__the_same_from_many__the_endpoint_is_asked_once(virtually):
    async def story(world):
        chain = chain_with()
        relay = await world.relay(ALICE, chain)
        await world.sensor()
        source = world.asking.source(ALICE, [relay.node_id])
        heads = [await source.header() for _ in range(5)]
        assert len(set(heads)) == 1
        assert chain.requests.count("header") == 1

    virtually(story)


def test_answer__nonsense_of_all_kinds__is_unavailable_and_never_more(virtually):
    class Babbling:
        codes = frozenset({ASK_CHAIN})
        contents = iter([b"", b"\xc1", b"\x93\x01", b"\x01", b"\xdd\xff\xff\xff\xff", b"\x95" + b"\x01" * 5])

        def joined(self, peer):
            pass

        def left(self, peer):
            pass

        async def handle(self, peer, _code, payload):
            ask = ChainAsk.decode(payload)
            peer.post(ChainAnswer(bytes(8), Verdict.FOUND, b"unasked").encode())
            peer.post(ChainAnswer(ask.request, Verdict.FOUND, next(self.contents)).encode())

        async def run(self):
            pass

        def sweep(self, now):
            pass

    async def story(world):
        relay = await world.relay(ALICE, None, service=Babbling())
        await world.sensor()
        source = world.asking.source(ALICE, [relay.node_id])
        for _ in range(3):
            with pytest.raises(ChainUnavailable):
                await source.header()
            with pytest.raises(ChainUnavailable):
                await source.logs(1, 2)
        assert world.metrics.value("chain_answers_ignored", reason="unasked") == 6

    virtually(story)


def test_message__hostile_bytes__a_wire_error_and_nothing_else():
    @given(st.binary(max_size=80))
    def hold(raw):
        for read in (ChainAsk.decode, ChainAnswer.decode):
            try:
                read(raw)
            except WireError:
                continue
        for read in (read_header, read_logs):
            try:
                read(raw)
            except ValueError:
                continue

    hold()
    ask = ChainAsk(b"12345678", What.LOGS, 3, 9)
    assert ChainAsk.decode(ask.encode().payload) == ask
    assert ask.encode() == Message(STEM.name, ASK_CHAIN, ask.encode().payload)
    answer = ChainAnswer(b"12345678", Verdict.REFUSED, b"x")
    assert (answer.encode().code, ChainAnswer.decode(answer.encode().payload)) == (CHAIN, answer)


def _line(owner, number):
    public = PrivateKey.from_bytes(key(number) if len(key(number)) == 32 else bytes([number]) * 32).public
    return f"{owner}=enode://{public.to_bytes().hex()}@127.0.0.1:{30300 + number}"


@pytest.mark.parametrize(
    ("relays", "words"),
    [
        ([], "2 different owners"),
        ([_line(ALICE, 1), _line(ALICE, 2)], "2 different owners"),
        ([_line(ALICE, 1), _line(ALICE.lower(), 2)], "2 different owners"),
        ([_line(ALICE, 1), _line(BOB, 1)], "named twice"),
        (["enode://12"], "is not <owner's address>"),
    ],
)
def test_vouched__relays_that_are_not_of_two_owners__are_refused_in_one_sentence(relays, words):
    with pytest.raises(SettingsError, match=words):
        vouched(ChainSection(deployment="d", rpc="relays", relays=relays))


def test_vouched__a_second_endpoint_beside__is_refused():
    with pytest.raises(SettingsError, match="no ws, second or fallbacks"):
        vouched(ChainSection(deployment="d", rpc="relays", second="http://x", relays=[_line(ALICE, 1), _line(BOB, 2)]))


def test_vouched__two_owners__each_with_its_relays():
    found = vouched(ChainSection(deployment="d", relays=[_line(ALICE, 1), _line(BOB, 2), _line(ALICE, 3)]))
    assert {owner: len(enodes) for owner, enodes in found.items()} == {ALICE: 2, BOB: 1}
