"""A chain and ways to it that are unreliable: a node that is killed and reorganises, endpoints that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random as randomness
import signal
from typing import Any

from quietfleet.testbed.anvil import Anvil

HEADER_END = b"\r\n\r\n"


class Node:
    """An anvil whose state outlives SIGKILL, spoken to over one connection; blocks are mined when told to."""

    def __init__(self, anvil: Anvil) -> None:
        self._anvil = anvil
        self._connection: http.client.HTTPConnection | None = None
        self.port = anvil.port
        self._since_start = 0
        self._marks: list[str] = []

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def request(self, method: str, *parameters: Any) -> Any:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        self._connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = json.loads(self._connection.getresponse().read())
        assert "error" not in answer, (method, parameters, answer["error"])
        return answer["result"]

    @property
    def height(self) -> int:
        return int(self.request("eth_blockNumber"), 16)

    def timestamp(self) -> int:
        return int(self.request("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def send(self, sender: str, to: str, data: bytes, value: int = 0) -> None:
        """Put a transaction into the next block, whether the contract takes it or not."""
        call = {"from": sender, "to": to, "data": "0x" + data.hex(), "value": hex(value), "gas": hex(1_500_000)}
        self.request("eth_sendTransaction", call)

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.request("evm_mine")

    def depth(self, most: int, floor: int) -> int:
        """How many blocks may be taken back: never those below `floor`, nor those from before a restart."""
        return max(0, min(most, self.height - max(floor, self._since_start)))

    def mark(self) -> None:
        """Keep this block as one to go back to."""
        self._marks.append(self.request("evm_snapshot"))

    def go_back(self, marks: int) -> None:
        """Forget all blocks since one of the latest marks, if there is one."""
        if self._marks:
            marks = min(marks, len(self._marks))
            assert self.request("evm_revert", self._marks[-marks])
            del self._marks[-marks:]

    def reorganise(self, depth: int) -> None:
        """Replace the newest blocks by empty ones; the node forgets its marks among them."""
        self.request("anvil_reorg", depth, [])
        self._marks = []

    def save(self) -> str:
        return str(self.request("anvil_dumpState"))

    def kill_and_load(self, saved: str) -> None:
        """SIGKILL the node, and start it on a state that it saved."""
        process = self._anvil._process
        assert process is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.close()
        self._anvil.start()
        assert self.request("anvil_loadState", saved)
        self.request("evm_setAutomine", False)
        self.request("anvil_setBlockTimestampInterval", 1)
        self._since_start = self.height
        self._marks = []


class Endpoint:
    """A TCP proxy before the node that understands just enough HTTP to misbehave; `plan` says what happens next.

    `refuse` hangs up at once, `cut` in the middle of the answer, `pause` answers late, `error` answers with an error,
    `twice` repeats each log, `removed` mixes in logs that a reorg is said to have taken away, `forget` has not
    seen the newest blocks when it is asked for a range.
    """

    def __init__(self, node: Node, random: randomness.Random) -> None:
        self._node = node
        self._random = random
        self._server: asyncio.Server | None = None
        self.faults: dict[str, float] = {}
        self.lag = 0
        self.served = 0

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def heal(self) -> None:
        self.faults, self.lag = {}, 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await self._exchange(reader, writer):
                self.served += 1
        writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        asked = json.loads(await _body(reader))
        fault = self._fault()
        if fault == "refuse":
            return False
        answer = json.dumps(self._answer(asked, fault)).encode()
        if fault == "pause":
            await asyncio.sleep(self._random.random() / 100)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n".encode()
        writer.write((head + answer)[: len(head) + len(answer) // 2] if fault == "cut" else head + answer)
        await writer.drain()
        return fault != "cut"

    def _fault(self) -> str:
        for name, chance in self.faults.items():
            if self._random.random() < chance:
                return name
        return ""

    def _answer(self, asked: dict[str, Any], fault: str) -> dict[str, Any]:
        frame = {"jsonrpc": "2.0", "id": asked["id"]}
        if fault == "error":
            return {**frame, "error": {"code": -32005, "message": "limit exceeded"}}
        method, parameters = asked["method"], asked["params"]
        if method == "eth_getBlockByNumber":
            return {**frame, "result": self._block(parameters)}
        result = self._node.request(method, *parameters)
        if method == "eth_getLogs":
            result = self._logs(result, "" if fault == "forget" and "blockHash" in parameters[0] else fault)
        return {**frame, "result": result}

    def _block(self, parameters: list[Any]) -> Any:
        last = max(0, self._node.height - self.lag)
        if parameters[0] == "latest":
            return self._node.request("eth_getBlockByNumber", hex(last), False)
        if int(parameters[0], 16) > last:
            return None
        return self._node.request("eth_getBlockByNumber", *parameters)

    def _logs(self, logs: list[dict[str, Any]], fault: str) -> list[dict[str, Any]]:
        last = self._node.height - self.lag
        shown = [log for log in logs if int(log["blockNumber"], 16) <= last]
        if fault == "twice":
            shown = shown + shown[::-1]
        if fault == "removed":
            shown += [{**log, "removed": True, "blockHash": "0x" + 64 * "7"} for log in shown]
        if fault == "forget" and shown:
            seen = self._node.height - self._random.randrange(1, 20)
            shown = [log for log in shown if int(log["blockNumber"], 16) <= seen]
        return shown


async def _body(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(HEADER_END)).lower()
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
    return await reader.readexactly(int(length.split(b":")[1]))
