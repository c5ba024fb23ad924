"""Our node and a real go-ethereum 1.9 as peers: links both ways, envelopes both ways.

QUIETFLEET_GETH names the executable; without it there is nothing to test against.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from quietfleet.clock import SystemClock
from quietfleet.crypto import PrivateKey
from quietfleet.devp2p import Capability
from quietfleet.errors import LinkError
from quietfleet.metrics import Metrics
from quietfleet.network import SHH, STEM, Address, EmbeddedNode, Enode, LinkTiming, RlpxLinks, Tuning
from quietfleet.whisper import Rules, mine, open_symmetric, seal_symmetric

GETH = os.environ.get("QUIETFLEET_GETH", "")
pytestmark = pytest.mark.skipif(not GETH, reason="set QUIETFLEET_GETH to a go-ethereum 1.9 executable")

KEY, TOPIC = b"\x2a" * 32, b"\xde\xad\xbe\xef"
TTL = 50  # seconds
MIN_POW = 0.2  # what geth asks for unless told otherwise
PATIENCE = 60  # seconds; its start alone may take ten


class Geth:
    """One running go-ethereum, spoken to over its IPC socket."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        self._ids = itertools.count(1)

    async def call(self, method, *params):
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        self._writer.write(json.dumps(request).encode() + b"\n")
        await self._writer.drain()
        answer = json.loads(await self._reader.readline())
        assert "error" not in answer, answer
        return answer["result"]

    async def enode(self):
        """Return where it listens, by its loopback address."""
        told = Enode.parse((await self.call("admin_nodeInfo"))["enode"])
        return Enode(told.node_id, Address("127.0.0.1", told.address.port))

    async def until(self, method, *params):
        """Ask again and again until there is an answer."""
        while not (answer := await self.call(method, *params)):  # noqa: ASYNC110 -- another process's answer
            await asyncio.sleep(0.05)
        return answer


@contextlib.asynccontextmanager
async def running(folder, port):
    """Start a geth that knows nobody and stop it afterwards."""
    ipc, log = folder / "geth.ipc", (folder / "log").open("wb")
    options = ["--shh", "--nodiscover", "--nat=none", "--nousb", "--networkid=15151", "--maxpeers=10", f"--port={port}"]
    process = await asyncio.create_subprocess_exec(
        GETH, *options, f"--datadir={folder}", f"--ipcpath={ipc}", stdout=log, stderr=log
    )
    try:
        async with asyncio.timeout(PATIENCE):
            while not ipc.exists():
                assert process.returncode is None, (folder / "log").read_text()
                await asyncio.sleep(0.05)
            reader, writer = await asyncio.open_unix_connection(str(ipc), limit=1 << 24)
        yield Geth(reader, writer)
        writer.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        log.close()


@pytest.fixture
async def geth():
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="qf-"))  # short, as a socket's path must be
    try:
        async with asyncio.timeout(PATIENCE * 3), running(folder, port) as geth:
            yield geth
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["we dial", "geth dials"])
async def node(request, geth):
    """Our relay, connected to geth."""
    dials = request.param == "we dial"
    node = EmbeddedNode(
        listen="127.0.0.1:0",
        peers=[str(await geth.enode())] if dials else [],
        rules=Rules(min_pow=MIN_POW),
        metrics=Metrics(),
        clock=SystemClock(),
        rng=random.Random(1),
        tuning=Tuning(max_delay=0.01),
        links=RlpxLinks(PrivateKey.generate(), exempt_loopback=True),
    )
    await node.start()
    if not dials:
        assert await geth.call("admin_addPeer", str(node.enode)) is True
    async with asyncio.timeout(PATIENCE):
        await node.connected()
    yield node
    await node.stop()


def seal(text):
    """Return an envelope as another Whisper node would write it."""
    expiry = int(SystemClock().now()) + TTL
    return mine(expiry, TTL, TOPIC, seal_symmetric(KEY, text), 2 * MIN_POW)


async def test_connected__to_geth__each_knows_the_other(geth, node):
    (peer,) = await geth.until("admin_peers")
    assert peer["enode"].startswith(f"enode://{node.node_id.hex()}@")
    assert set(peer["caps"]) == {"shh/6", "stem/1"}
    assert "shh" in peer["protocols"]


async def test_publish__to_geth__read_by_its_filter(geth, node):
    key = await geth.call("shh_addSymKey", f"0x{KEY.hex()}")
    criteria = {"symKeyID": key, "topics": [f"0x{TOPIC.hex()}"]}
    inbox = await geth.call("shh_newMessageFilter", criteria)
    sent = {}
    for text in (b"one", b"two", bytes(20_000)):
        envelope = seal(text)
        sent[envelope.hash.hex()] = text
        await node.publish(envelope)
    heard = {}
    async with asyncio.timeout(PATIENCE):
        while len(heard) < len(sent):
            for message in await geth.until("shh_getFilterMessages", inbox):
                heard[message["hash"].removeprefix("0x")] = bytes.fromhex(message["payload"].removeprefix("0x"))
    assert heard == sent


async def test_post__by_geth__read_by_our_node(geth, node):
    inbox = node.envelopes()
    key = await geth.call("shh_addSymKey", f"0x{KEY.hex()}")
    post = {"symKeyID": key, "ttl": TTL, "topic": f"0x{TOPIC.hex()}", "payload": "0x68656c6c6f"}
    hashed = await geth.call("shh_post", post | {"powTime": 20, "powTarget": 2 * MIN_POW})
    async with asyncio.timeout(PATIENCE):
        envelope = await anext(inbox)
    assert envelope.hash.hex() == hashed.removeprefix("0x")
    assert open_symmetric(KEY, envelope.data).payload == b"hello"


async def test_link__idle_longer_than_any_read_timeout__stays(geth, node):
    (before,) = node.connected_peers
    await asyncio.sleep(LinkTiming().read + 5)
    assert node.connected_peers == (before,)
    assert len(await geth.call("admin_peers")) == 1


async def test_dial__same_key_twice__geth_says_already_connected(geth):
    links, enode = RlpxLinks(PrivateKey.generate()), await geth.enode()
    first = await links.dial(enode)
    with pytest.raises(LinkError) as caught:
        await links.dial(enode)
    assert caught.value.cause == "peer_already_connected"
    await first.close()


async def test_dial__nothing_geth_speaks__useless(geth):
    with pytest.raises(LinkError) as caught:
        await RlpxLinks(PrivateKey.generate(), (STEM, Capability("shh", 5, 128))).dial(await geth.enode())
    assert caught.value.cause in {"useless_peer", "peer_useless_peer"}


async def test_dial__as_geth_does_it__shh_alone_is_shared(geth):
    link = await RlpxLinks(PrivateKey.generate(), (SHH, STEM)).dial(await geth.enode())
    assert link.capabilities == {"shh"}
    assert (await link.receive()).code == 0
    await link.close()
