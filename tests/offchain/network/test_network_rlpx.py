"""RlpxLinks over real localhost sockets, between each other and against peers that hold out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.crypto import PrivateKey
from quietfleet.devp2p import Capability, Profile, Reason, Session
from quietfleet.errors import FrameError, LinkError
from quietfleet.metrics import Metrics
from quietfleet.network import SHH, STEM, Address, Enode, LinkTiming, Message
from quietfleet.network.admission import Admission, Holdings
from quietfleet.network.rlpx import RlpxLinks

HERE = Address("127.0.0.1", 0)
HASTY = LinkTiming(connect=5.0, handshake=0.2, ping=0.05, read=0.2, write=0.2)
FOREIGN = (Capability("eth", 64, 17),)


class Relay:
    """A listening RlpxLinks and the links it accepted."""

    def __init__(self, links, metrics):
        self.links, self.metrics = links, metrics
        self.accepted, self.taken = asyncio.Queue(), []

    def accept(self, link):
        self.accepted.put_nowait(link)
        self.taken.append(link)

    @property
    def enode(self):
        return Enode(self.links.node_id, self.listener.address)

    async def refused(self, cause, count=1):
        """Wait until so many connections ended for this cause before they were links."""
        await _until(lambda: self.metrics.value("network_refused", cause=cause) >= count)


@pytest.fixture
async def start_relay():
    """Return a factory of relays."""
    relays = []

    async def start(capabilities=(SHH, STEM), timing=None, **limits):
        metrics = Metrics()
        relay = Relay(RlpxLinks(PrivateKey.generate(), capabilities, timing, metrics=metrics, **limits), metrics)
        relay.listener = await relay.links.listen(HERE, relay.accept)
        relays.append(relay)
        return relay

    yield start
    for relay in relays:
        relay.listener.close()
        await asyncio.gather(*(link.close() for link in relay.taken))


@pytest.fixture
async def dial():
    """Return a factory of links to a relay, each under a key of its own."""
    opened = []

    async def dial(relay, capabilities=(SHH, STEM), timing=None):
        link = await RlpxLinks(PrivateKey.generate(), capabilities, timing).dial(relay.enode)
        opened.append(link)
        return link

    yield dial
    await asyncio.gather(*(link.close() for link in opened))


@pytest.fixture
async def pair(start_relay, dial):
    """The dialler's and the listener's end of one link."""
    relay = await start_relay()
    return await dial(relay), await relay.accepted.get()


@contextlib.asynccontextmanager
async def bare(relay):
    """A TCP connection to a relay, without a handshake."""
    reader, writer = await asyncio.open_connection(*_place(relay))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _place(relay):
    return relay.listener.address.host, relay.listener.address.port


class ByHand:
    """A peer that shakes hands by itself and then reads and writes only when told to."""

    def __init__(self, reader, writer, relay):
        self.reader, self.writer = reader, writer
        key = PrivateKey.generate()
        self.session = Session(Profile(key, (SHH, STEM)), relay.links._profile.key.public)

    async def greet(self):
        while not self.session._offsets:
            self.writer.write(self.session.output())
            self.session.feed(await self.reader.read(4096))
        await self.say()

    async def say(self):
        self.writer.write(self.session.output())
        await self.writer.drain()


async def _until(condition):
    """Wait for what only the event loop's other work brings about."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 -- no event tells it
            await asyncio.sleep(0.001)


async def ended(link):
    """Wait for the end of a link and return its cause."""
    async with asyncio.timeout(60):
        try:
            while True:
                await link.receive()
        except LinkError as error:
            return error.cause


async def closed(reader):
    """Wait until the other side hangs up; return what it said before."""
    said = b""
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                said += data
    return said


async def test_dial__listening_relay__both_know_each_other(start_relay, dial):
    relay = await start_relay()
    ours = await dial(relay)
    theirs = await relay.accepted.get()
    assert (ours.peer, ours.inbound, ours.remote) == (relay.links.node_id, False, relay.listener.address)
    assert (theirs.inbound, theirs.remote.host) == (True, "127.0.0.1")
    assert ours.capabilities == theirs.capabilities == {"shh", "stem"}


async def test_send__several_sizes_both_ways__arrive_whole_and_in_order(pair):
    sent = [Message("shh", 1, b""), Message("stem", 15, b"x"), Message("shh", 127, bytes(65_536))]
    sent += [Message("stem", 0, bytes(range(256)) * 8192)]
    for one, other in (pair, pair[::-1]):
        sending = asyncio.create_task(_send_all(one, sent))
        assert [await other.receive() for _ in sent] == sent
        await sending


async def _send_all(link, messages):
    for message in messages:
        await link.send(message)


async def test_send__many_small_ones__reach_the_transport_in_few_writes(pair):
    ours, theirs = pair
    writes, write = [], ours._transport.write

    class Counting:
        def __getattr__(self, name):
            return getattr(transport, name)

        def write(self, data):
            writes.append(len(data))
            write(data)

    transport, ours._transport = ours._transport, Counting()
    messages = [Message("shh", 1, bytes([number])) for number in range(200)]
    await _send_all(ours, messages)
    assert [await theirs.receive() for _ in messages] == messages
    ours._transport = transport
    assert len(writes) <= 3


async def test_send__beyond_the_link__refused_and_the_link_lives(start_relay, dial):
    relay = await start_relay((SHH,))
    ours = await dial(relay)
    for message in (Message("stem", 0, b""), Message("shh", 128, b""), Message("shh", 1, bytes(1 << 24))):
        with pytest.raises(FrameError):
            await ours.send(message)
    await ours.send(Message("shh", 0, b"\xc0"))
    assert await (await relay.accepted.get()).receive() == Message("shh", 0, b"\xc0")


async def test_close__with_a_reason__told_to_the_peer_after_what_was_sent(pair):
    ours, theirs = pair
    await ours.send(Message("shh", 1, b"last"))
    await ours.close(Reason.QUITTING)
    await ours.close()
    assert await theirs.receive() == Message("shh", 1, b"last")
    assert await ended(theirs) == "peer_quitting"
    with pytest.raises(LinkError):
        await ours.send(Message("shh", 1, b""))
    with pytest.raises(LinkError):
        await ours.receive()
    with pytest.raises(LinkError):
        await theirs.send(Message("shh", 1, b""))


async def test_receive__peer_hangs_up__ends(pair):
    ours, theirs = pair
    theirs._transport.abort()
    assert await ended(ours) == "hung_up"


async def test_dial__another_key_listens__refused_and_counted(start_relay):
    relay = await start_relay()
    wrong = Enode(PrivateKey.generate().public.to_bytes(), relay.listener.address)
    with pytest.raises(LinkError) as caught:
        await RlpxLinks(PrivateKey.generate()).dial(wrong)
    assert caught.value.cause == "hung_up"
    await relay.refused("bad_handshake")


async def test_dial__nothing_in_common__useless_on_both_sides(start_relay, dial):
    relay = await start_relay()
    with pytest.raises(LinkError) as caught:
        await dial(relay, FOREIGN)
    assert caught.value.cause in {"useless_peer", "peer_useless_peer"}
    causes = ("useless_peer", "peer_useless_peer")
    await _until(lambda: any(relay.metrics.value("network_refused", cause=cause) for cause in causes))


async def test_dial__ourselves__refused_without_a_connection(start_relay):
    relay = await start_relay()
    with pytest.raises(LinkError) as caught:
        await relay.links.dial(relay.enode)
    assert caught.value.cause == "self"


@pytest.mark.parametrize(
    ("node_id", "host", "cause"),
    [
        (bytes(64), "127.0.0.1", "invalid_identity"),
        (None, "127.0.0.1", "unreachable"),
        (None, "a" * 70 + ".example", "unreachable"),
    ],
)
async def test_dial__nobody_there__raises_link_error(node_id, host, cause):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        place = Address(host, taken.getsockname()[1])
        node_id = node_id if node_id is not None else PrivateKey.generate().public.to_bytes()
        with pytest.raises(LinkError) as caught:
            await RlpxLinks(PrivateKey.generate()).dial(Enode(node_id, place))
        assert caught.value.cause == cause


async def test_dial__listener_says_nothing__given_up_in_time():
    async def sit(reader, writer):
        await closed(reader)
        writer.close()

    server = await asyncio.start_server(sit, "127.0.0.1", 0)
    place = Address(*server.sockets[0].getsockname()[:2])
    with pytest.raises(LinkError) as caught:
        await RlpxLinks(PrivateKey.generate(), timing=HASTY).dial(Enode(PrivateKey.generate().public.to_bytes(), place))
    assert caught.value.cause == "handshake_timeout"
    server.close()


async def test_dial__cancelled__leaves_no_connection(start_relay):
    relay = await start_relay()
    hung_up = asyncio.Event()

    async def sit(reader, writer):
        await closed(reader)
        hung_up.set()
        writer.close()

    server = await asyncio.start_server(sit, "127.0.0.1", 0)
    enode = Enode(relay.links.node_id, Address(*server.sockets[0].getsockname()[:2]))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await RlpxLinks(PrivateKey.generate()).dial(enode)
    async with asyncio.timeout(60):
        await hung_up.wait()
    server.close()


async def test_listen__port_taken__raises_link_error(start_relay):
    relay = await start_relay()
    with pytest.raises(LinkError) as caught:
        await RlpxLinks(PrivateKey.generate()).listen(relay.listener.address, relay.accept)
    assert caught.value.__cause__.errno == errno.EADDRINUSE


async def test_listener_close__open_links_live_and_half_open_ones_end(start_relay, dial):
    relay = await start_relay()
    ours = await dial(relay)
    theirs = await relay.accepted.get()
    async with bare(relay) as (reader, _):
        await _until(lambda: relay.links._admission.pending == 1)
        relay.listener.close()
        assert await closed(reader) == b""
    await ours.send(Message("shh", 1, b"still here"))
    assert (await theirs.receive()).payload == b"still here"
    with pytest.raises(LinkError):
        await dial(relay)


@pytest.mark.parametrize("words", [b"", b"\x01", b"\x01\x80\x04", b"\x04" + bytes(100)])
async def test_accept__handshake_begun_and_left__dropped_in_time_and_in_silence(start_relay, words):
    relay = await start_relay(timing=HASTY)
    async with bare(relay) as (reader, writer):
        writer.write(words)
        assert await closed(reader) == b""
    await relay.refused("handshake_timeout")
    assert relay.links._admission.pending == 0


async def test_accept__handshake_dripped_byte_by_byte__dropped_in_time(start_relay):
    relay = await start_relay(timing=HASTY)
    async with bare(relay) as (reader, writer):
        with contextlib.suppress(OSError):
            for _ in range(10_000):
                writer.write(b"\x01")
                await writer.drain()
                await asyncio.sleep(0.01)
                if reader.at_eof():
                    break
    await relay.refused("handshake_timeout")


@pytest.mark.parametrize(
    "words", [b"GET / HTTP/1.1\r\n\r\n" * 30, b"\xff\xff", b"\x16\x03\x01\x02\x00\x01" + bytes(600)]
)
async def test_accept__no_handshake_at_all__dropped_at_once_in_silence(start_relay, words):
    relay = await start_relay()
    async with bare(relay) as (reader, writer):
        writer.write(words)
        assert await closed(reader) == b""
    await relay.refused("bad_handshake")


async def test_accept__keys_agreed_but_no_hello__dropped_in_time(start_relay):
    relay = await start_relay(timing=HASTY)
    async with bare(relay) as (reader, writer):
        peer = ByHand(reader, writer, relay)
        writer.write(peer.session.output())
        await closed(reader)
    await relay.refused("handshake_timeout")


async def test_accept__more_half_open_than_allowed__the_oldest_gives_way_to_an_honest_peer(start_relay, dial):
    relay = await start_relay(max_pending=3, exempt_loopback=True)
    async with contextlib.AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(bare(relay)) for _ in range(3)]
        await _until(lambda: relay.links._admission.pending == 3)
        await dial(relay)
        assert await closed(silent[0][0]) == b""
        await relay.refused("crowded_out")
        await _until(lambda: relay.links._admission.pending == 2)


async def test_accept__too_many_from_one_address__refused_until_one_leaves(start_relay, dial):
    relay = await start_relay(max_per_address=2)
    first, _ = await dial(relay), await dial(relay)
    with pytest.raises(LinkError):
        await dial(relay)
    await relay.refused("too_many_from_address")
    await first.close()
    assert await ended(await relay.accepted.get()) == "peer_requested"
    await dial(relay)


async def test_accept__loopback_exempt__not_counted(start_relay, dial):
    relay = await start_relay(max_per_address=1, exempt_loopback=True)
    for _ in range(3):
        await dial(relay)


async def test_read__peer_silent__dropped_while_one_that_answers_pings_stays(start_relay, dial):
    relay = await start_relay(timing=HASTY)
    lively = await dial(relay)
    kept = await relay.accepted.get()
    async with bare(relay) as (reader, writer):
        await ByHand(reader, writer, relay).greet()
        silent = await relay.accepted.get()
        assert await ended(silent) == "read_timeout"
        await closed(reader)
    await lively.send(Message("shh", 1, b"alive"))
    assert (await kept.receive()).payload == b"alive"


async def test_read__part_of_a_frame_dripped__is_no_sign_of_life(start_relay):
    relay = await start_relay(timing=HASTY)
    async with bare(relay) as (reader, writer):
        peer = ByHand(reader, writer, relay)
        await peer.greet()
        link = await relay.accepted.get()
        peer.session.send("shh", 1, _noise(10_000))
        dripping = asyncio.create_task(_drip(writer, peer.session.output()))
        assert await ended(link) == "read_timeout"
        dripping.cancel()


async def _drip(writer, data):
    for number in data:
        writer.write(bytes([number]))
        await asyncio.sleep(0.01)


async def test_write__peer_does_not_read__sender_waits_and_the_link_ends(start_relay):
    relay = await start_relay(timing=LinkTiming(write=0.3))
    async with bare(relay) as (reader, writer):
        peer = ByHand(reader, writer, relay)
        await peer.greet()
        link = await relay.accepted.get()
        reader._transport.pause_reading()
        async with asyncio.timeout(60):
            with pytest.raises(LinkError) as caught:
                await _send_all(link, [Message("shh", 1, _noise(900_000))] * 100)
        assert caught.value.cause == "write_timeout"
        assert link._unsent < 4 << 20


async def test_receive__nobody_takes_messages__the_peer_has_to_wait(pair):
    ours, theirs = pair
    message = Message("shh", 1, _noise(128 * 1024))
    sending = asyncio.create_task(_send_all(ours, [message] * 200))
    await _until(lambda: not theirs._reading)
    await _until(lambda: not ours._writable.is_set())
    assert theirs._inbox_size < 4 << 20
    assert not sending.done()
    for _ in range(200):
        assert await theirs.receive() == message
    await sending


async def test_receive__pings_without_end__the_peer_is_dropped(start_relay):
    relay = await start_relay()
    async with bare(relay) as (reader, writer):
        peer = ByHand(reader, writer, relay)
        await peer.greet()
        link = await relay.accepted.get()
        for _ in range(1000):
            peer.session.ping()
        with contextlib.suppress(OSError):
            await peer.say()
        assert await ended(link) == "chatter"


async def test_receive__frame_altered_on_the_wire__what_came_before_is_heard_and_the_link_ends(start_relay):
    relay = await start_relay()
    async with bare(relay) as (reader, writer):
        peer = ByHand(reader, writer, relay)
        await peer.greet()
        link = await relay.accepted.get()
        peer.session.send("shh", 1, b"whole")
        peer.session.send("shh", 1, b"altered")
        writer.write(peer.session.output()[:-1] + b"\0")
        assert (await link.receive()).payload == b"whole"
        assert await ended(link) == "bad_mac"


async def test_receive__unfinished_frames_of_many_links__the_largest_goes_first(start_relay):
    relay = await start_relay(max_held=400_000)
    async with contextlib.AsyncExitStack() as stack:
        links = []
        for size in (100_000, 200_000, 150_000):
            peer = ByHand(*await stack.enter_async_context(bare(relay)), relay)
            await peer.greet()
            links.append(await relay.accepted.get())
            peer.session.send("shh", 1, _noise(300_000))
            peer.writer.write(peer.session.output()[:size])
            await _until(lambda link=links[-1], size=size: link._error or link._session.held > size - 1000)
        assert await ended(links[1]) == "crowded_out"
        assert not links[0]._error
        assert not links[2]._error


def _noise(size):
    """Return bytes that do not compress."""
    return random.Random(size).randbytes(size)


async def test_duplex__both_sides_send_much_at_once__neither_stands_still(pair):
    message = Message("stem", 3, _noise(64_000))

    async def drain(link):
        for _ in range(100):
            assert await link.receive() == message

    async with asyncio.timeout(30):
        await asyncio.gather(*(work for link in pair for work in (_send_all(link, [message] * 100), drain(link))))


class Guest:
    """What a connection looks like to those who count."""

    def __init__(self):
        self.error = None

    def fail(self, error):
        self.error = error


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("somewhere", "somewhere", True),
    ],
)
def test_admission__two_addresses__counted_as_one_where_one_host_has_both(one, other, same):
    admission = Admission(10, 1, exempt_loopback=False)
    assert admission.enter(Guest(), Address(one, 1))
    assert admission.enter(Guest(), Address(other, 2)) is not same


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100)), max_size=60))
def test_holdings__any_changes__never_above_the_limit(changes):
    guests, holdings = [Guest() for _ in range(6)], Holdings(150)
    held = [0] * 6
    for number, size in changes:
        if not guests[number].error:
            holdings.note(guests[number], size)
            held[number] = size
        held = [0 if guest.error else size for guest, size in zip(guests, held, strict=True)]
        assert holdings._sum == sum(held) <= 150
