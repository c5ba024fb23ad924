"""Frames over a real socket pair, and what cancels what."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from quietfleet.errors import FrameError, LinkError
from quietfleet.network import Address, LinkTiming, TcpLinks
from quietfleet.network.link import MAX_FRAME
from quietfleet.network.node import _first_failure

HERE = Address("127.0.0.1", 0)


@pytest.fixture
async def make_pair():
    """Return a factory of connected links: the dialler's and the listener's."""
    opened = []

    async def make(timing=None):
        accepted = asyncio.Queue()
        listener = await TcpLinks(timing).listen(HERE, accepted.put_nowait)
        pair = await TcpLinks(timing).dial(listener.address), await accepted.get()
        listener.close()
        opened.extend(pair)
        return pair

    yield make
    await asyncio.gather(*(link.close() for link in opened))


async def test_send__several_sizes__arrive_whole_and_in_order(make_pair):
    ours, theirs = await make_pair()
    sent = [(code, bytes([code]) * size) for code, size in enumerate((0, 1, 65_536, 3_000_000))]

    async def send_all():
        for code, payload in sent:
            await ours.send(code, payload)

    sending = asyncio.create_task(send_all())
    assert [await theirs.receive() for _ in sent] == sent
    await sending
    assert (ours.local, ours.remote) == (theirs.remote, theirs.local)


@pytest.mark.parametrize(("code", "size"), [(0, MAX_FRAME), (240, 0), (-1, 0)])
async def test_send__beyond_a_frame__raises_frame_error(make_pair, code, size):
    ours, _ = await make_pair()
    with pytest.raises(FrameError):
        await ours.send(code, bytes(size))


async def test_receive__peer_closes__raises_link_error(make_pair):
    ours, theirs = await make_pair()
    await theirs.close()
    with pytest.raises(LinkError):
        await ours.receive()
    await theirs.close()


async def test_receive__only_pings_come__stays_open_beyond_the_read_timeout(make_pair):
    ours, theirs = await make_pair(LinkTiming(ping=0.05, read=0.3))
    answer = asyncio.create_task(ours.receive())
    silence = asyncio.create_task(theirs.receive())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(answer), 0.6)
    assert not answer.done()
    await theirs.send(7, b"still here")
    assert await answer == (7, b"still here")
    silence.cancel()


async def test_receive__ping__is_answered_and_other_link_codes_are_not():
    accepted = asyncio.Queue()
    listener = await TcpLinks().listen(HERE, accepted.put_nowait)
    reader, writer = await asyncio.open_connection(listener.address.host, listener.address.port)
    link = await accepted.get()
    frames = [b"\x00\x00\x00\x01" + bytes([code]) for code in (3, 9, 2, 16)]
    writer.write(b"".join(frames))
    assert await link.receive() == (0, b"")
    await link.close()
    assert await reader.read() == b"\x00\x00\x00\x01\x03"
    writer.close()
    listener.close()


async def test_dial__nobody_listens__raises_link_error(make_pair):
    ours, _ = await make_pair()
    with pytest.raises(LinkError):
        await TcpLinks().dial(ours.remote)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 70 + ".example"])
async def test_dial__no_such_host__raises_link_error(host):
    with pytest.raises(LinkError):
        await TcpLinks(LinkTiming(connect=2.0)).dial(Address(host, 1))


async def test_first_failure__one_part_fails__raises_it_and_ends_the_other():
    ended = asyncio.Event()

    async def wait_for_ever():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fail():
        await asyncio.sleep(0)
        raise LinkError

    with pytest.raises(LinkError):
        await _first_failure(wait_for_ever(), fail())
    assert ended.is_set()


async def test_first_failure__cancelled_as_a_part_fails__stays_cancelled():
    gate = asyncio.Event()

    async def fail():
        await gate.wait()
        raise LinkError

    task = asyncio.create_task(_first_failure(fail(), asyncio.Event().wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gate.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
