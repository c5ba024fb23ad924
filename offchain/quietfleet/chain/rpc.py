"""One JSON-RPC endpoint: headers, logs by explicit range, calls; every answer is checked, whatever brought it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Protocol, Self

import msgspec

from quietfleet.chain.abi import Abi
from quietfleet.chain.deployment import ContractRecord, Deployment
from quietfleet.chain.light_http import LightHttp
from quietfleet.chain.source import Header, RawLog
from quietfleet.crypto import checksum_address
from quietfleet.errors import ChainError, ChainMismatch, ChainRefused, ChainUnavailable

TIMEOUT: Final = 10.0
"""Seconds an endpoint may take to answer."""

_UNREACHABLE: Final = (TimeoutError, OSError, msgspec.DecodeError, ValueError, RecursionError)
_BEYOND: Final = 1 << 63  # no chain counts so far, and no database column


class Transport(Protocol):
    """What carries questions to one endpoint, and keeps its connections."""

    async def make_request(self, method: Any, params: Any) -> Any:
        """Return the answer's JSON; OSError, ValueError or msgspec.DecodeError if there is none."""
        ...

    async def disconnect(self) -> None:
        """Close the connections; the next request opens new ones."""
        ...


class ChainClient:
    """An endpoint of the chain that a deployment stands on; it refuses to work with any other chain."""

    def __init__(
        self,
        url: str,
        deployment: Deployment,
        timeout: float = TIMEOUT,
        transport: Callable[[str, float], Transport] = LightHttp,
    ) -> None:
        self.deployment = deployment
        self._provider = transport(url, timeout)
        self._timeout = timeout
        self._checked = False
        self._abis: dict[str, Abi] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to the endpoint."""
        await self._provider.disconnect()

    @property
    def endpoint(self) -> int:
        """Which endpoint is asked, where there are several."""
        return 0

    def turn(self) -> None:
        """Ask the next endpoint from now on, where there are several."""

    async def request(self, method: str, *parameters: Any) -> Any:
        """Make one request; the first one after a failure checks the chain id before.

        Raises ChainUnavailable, ChainRefused (the endpoint's own error) or ChainMismatch.
        """
        if not self._checked:
            await self._check_chain()
        return await self._send(method, parameters)

    async def everywhere(self, method: str, *parameters: Any) -> list[ChainError | None]:
        """Make one request of every endpoint there is; return what went wrong with each."""
        try:
            await self.request(method, *parameters)
        except ChainError as error:
            return [error]
        return [None]

    async def header(self, number: int | None = None) -> Header | None:
        """Return block `number`'s header, the newest for None; None if there is no such block."""
        found = await self.request("eth_getBlockByNumber", "latest" if number is None else hex(number), False)
        return None if found is None else self._read("header", _header, found)

    async def logs(self, first: int, last: int) -> list[RawLog]:
        """Return every log of the two contracts in these blocks, both included, whatever worker they are about."""
        return await self._logs({"fromBlock": hex(first), "toBlock": hex(last)})

    async def logs_in(self, block_hash: bytes) -> list[RawLog]:
        """Return every log of the two contracts in the block with this hash."""
        return await self._logs({"blockHash": "0x" + block_hash.hex()})

    async def call(
        self, contract: ContractRecord, function: str, arguments: Sequence[Any] = (), block: int | None = None
    ) -> tuple[Any, ...]:
        """Call a view; structs come back as dictionaries. ChainRefused carries revert data."""
        known = self.abi(contract).function(function)
        target = {"to": contract.address, "data": "0x" + known.encode(arguments).hex()}
        answer = await self.request("eth_call", target, "latest" if block is None else hex(block))
        return known.decode(self._read("eth_call", _bytes, answer))

    async def balance(self, address: str) -> int:
        """Return what an account holds, in wei."""
        return int(self._read("eth_getBalance", _integer, await self.request("eth_getBalance", address, "latest")))

    def abi(self, contract: ContractRecord) -> Abi:
        """Return the contract's lookup tables, made once."""
        if contract.address not in self._abis:
            self._abis[contract.address] = Abi(contract.abi)
        return self._abis[contract.address]

    async def _check_chain(self) -> None:
        found = self._read("eth_chainId", _integer, await self._send("eth_chainId", ()))
        if found != self.deployment.chain_id:
            raise ChainMismatch(f"it serves chain {found}, the contracts stand on {self.deployment.chain_id}")
        self._checked = True

    async def _send(self, method: str, parameters: Sequence[Any]) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._provider.make_request(method, list(parameters))
        except _UNREACHABLE as error:
            self._checked = False
            raise ChainUnavailable(f"{method}: {error or type(error).__name__}") from error
        if not isinstance(answer, dict):
            raise ChainUnavailable(f"{method}: not an answer but a {type(answer).__name__}")
        if "error" in answer:
            raise _refusal(method, answer["error"])
        return answer.get("result")

    async def _logs(self, query: dict[str, Any]) -> list[RawLog]:
        answer = await self.request("eth_getLogs", {**query, "address": list(self.deployment.addresses)})
        found = [self._read("log", _log, each) for each in self._read("eth_getLogs", list, answer)]
        return [log for log in found if log is not None]

    def _read(self, what: str, reader: Any, answer: Any) -> Any:
        try:
            return reader(answer)
        except (KeyError, TypeError, ValueError) as error:
            raise ChainUnavailable(f"{what}: not an answer: {error!r}") from error


def _refusal(method: str, error: Any) -> ChainRefused:
    if not isinstance(error, dict):
        return ChainRefused(method, str(error))
    return ChainRefused(method, str(error.get("message", "")), _revert(error.get("data")))


def _revert(data: Any) -> bytes:
    """Return revert data; nothing for what is none: some endpoints put a text there."""
    with suppress(ValueError):
        return _bytes(data) if isinstance(data, str) and data.startswith("0x") else b""
    return b""


def _integer(text: str) -> int:
    return int(text, 16)


def _count(text: str) -> int:
    number = _integer(text)
    if not 0 <= number < _BEYOND:
        raise ValueError(text)
    return number


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _header(found: dict[str, Any]) -> Header:
    return Header(
        number=_count(found["number"]),
        hash=_bytes(found["hash"]),
        parent=_bytes(found["parentHash"]),
        timestamp=_count(found["timestamp"]),
        bloom=_integer(found["logsBloom"]),
    )


@lru_cache(16)
def _contract(text: str) -> str:
    """Read the address of a contract: all logs of an answer are of the same two."""
    return checksum_address(_bytes(text))


def _log(found: dict[str, Any]) -> RawLog | None:
    log = RawLog(
        address=_contract(found["address"]),
        topics=tuple(_bytes(topic) for topic in found["topics"]),
        data=_bytes(found["data"]),
        block=_count(found["blockNumber"]),
        block_hash=_bytes(found["blockHash"]),
        index=_count(found["logIndex"]),
    )
    return None if found.get("removed") else log  # a reorg took it away, says the endpoint: it is on no chain
