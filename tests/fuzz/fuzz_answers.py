"""What an endpoint answers to requests, from the bytes of its JSON to typed logs and headers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any, Final

import msgspec
from fuzz_chain import CODEC, DEPLOYMENT, SERVICE
from harness import target

from quietfleet.chain.rpc import ChainClient
from quietfleet.errors import AbiError, ChainError

MOST: Final = 1 << 63  # what a database column takes
HASH: Final = "0x" + "11" * 32
HEADER: Final = {"number": "0x5", "hash": HASH, "parentHash": HASH, "timestamp": "0x6553f100", "logsBloom": "0x00"}
LOG: Final = {"address": SERVICE, "topics": [HASH], "data": "0x", "blockNumber": "0x5", "blockHash": HASH}


class Recorded:
    """A transport that has its answer already, and reads it as the real ones do."""

    content = b""

    async def make_request(self, method: Any, params: Any) -> Any:  # noqa: ARG002 -- the same to all
        return msgspec.json.decode(self.content)

    async def disconnect(self) -> None:
        """Nothing is connected."""


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _client(content: bytes, *, checked: bool) -> ChainClient:
    client = ChainClient("http://127.0.0.1:1", DEPLOYMENT)
    client._provider = Recorded()
    client._provider.content = content
    client._checked = checked
    return client


def _seeds() -> Iterator[bytes]:
    for result in (HEADER, None, "0x539", 5, [], {**HEADER, "number": hex(2**70)}, {**HEADER, "number": "-0x1"}):
        for kind in (b"\x00", b"\x02"):
            yield kind + json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
    for result in ([{**LOG, "logIndex": "0x0"}], [{**LOG, "logIndex": hex(2**64)}], [LOG], [5], "0x", [[]]):
        yield b"\x01" + json.dumps({"result": result}).encode()
    for error in ({"message": "reverted", "data": "0x08c379a0"}, {"message": 5, "data": "0xzz"}, "no", None, {}):
        yield b"\x01" + json.dumps({"error": error}).encode()
    yield from (b"\x00" + text for text in (b"5", b"null", b"[]", b'["error"]', b'"error"', b"", b"\xff", b"NaN"))
    yield b"\x00" + b"[" * 2000


@target(_seeds, 2048)
def chain_answers(data: bytes) -> None:
    kind, content = (data[:1] or b"\0")[0] % 3, data[1:]
    client = _client(content, checked=kind != 2)
    with suppress(ChainError):
        if kind == 1:
            _check_logs(_loop().run_until_complete(client.logs(1, 9)))
        else:
            header = _loop().run_until_complete(client.header(5))
            assert header is None or max(header.number, header.timestamp) < MOST
            assert header is None or min(header.number, header.timestamp) >= 0


def _check_logs(logs: Any) -> None:
    for log in logs:
        assert 0 <= max(log.block, log.index) < MOST
        with suppress(AbiError):
            CODEC.decode(log)
