"""A worker's part, where it has no endpoint: it asks relays for the chain, each owner's as one source.

Nothing a relay says is believed here: `Endpoints` reads two owners' sources at a time and takes what both say, byte for
byte. One owner with many relays is still one voice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from quietfleet.chain.source import Header, RawLog
from quietfleet.errors import ChainRefused, ChainUnavailable
from quietfleet.metrics import Metrics
from quietfleet.network.chainwire import (
    CHAIN,
    ChainAnswer,
    ChainAsk,
    Verdict,
    What,
    read_header,
    read_logs,
)
from quietfleet.network.directory import Directory, key_address
from quietfleet.network.peer import Peer
from quietfleet.network.stemwire import REQUEST_SIZE

PATIENCE: Final = 15.0
"""Seconds a relay may take to answer."""

_Found = TypeVar("_Found")


class ChainAsking:
    """A `Service` of a worker; `random` names questions."""

    codes = frozenset({CHAIN})

    def __init__(
        self, directory: Directory, metrics: Metrics, random: Callable[[int], bytes], patience: float = PATIENCE
    ) -> None:
        self._directory, self._metrics, self._random, self._patience = directory, metrics, random, patience
        self._peers: dict[bytes, Peer] = {}
        self._asked: dict[tuple[Peer, bytes], asyncio.Future[ChainAnswer]] = {}

    def source(self, owner: str, relays: Sequence[bytes]) -> OwnersChain:
        """Return the chain as an owner's relays show it; `relays` are node ids."""
        return OwnersChain(self, owner, relays)

    def joined(self, peer: Peer) -> None:
        self._peers[peer.node_id] = peer

    def left(self, peer: Peer) -> None:
        if self._peers.get(peer.node_id) is peer:
            del self._peers[peer.node_id]
        for (asked, _), answer in self._asked.items():
            if asked is peer and not answer.done():
                answer.set_exception(ChainUnavailable("the relay hung up"))

    async def handle(self, peer: Peer, code: int, payload: bytes) -> None:  # noqa: ARG002 -- there is one code
        answer = ChainAnswer.decode(payload)
        waiting = self._asked.get((peer, answer.request))
        if waiting is None or waiting.done():
            self._metrics.count("chain_answers_ignored", reason="unasked")
        else:
            waiting.set_result(answer)

    async def run(self) -> None:
        """Nothing is to be done but what is asked."""

    def sweep(self, now: float) -> None:
        """Nothing is kept."""

    def reach(self, owner: str, relays: Sequence[bytes]) -> Peer:
        """Return the first of an owner's relays that is connected; ChainUnavailable if there is none.

        A relay that the registry gives to somebody else is not this owner's voice any more.
        """
        for node_id in relays:
            listed = self._directory.owner_of(key_address(node_id))
            if listed is not None and listed != owner:
                self._metrics.count("chain_relays_unused", reason="another owner's")
            elif node_id in self._peers:
                return self._peers[node_id]
        raise ChainUnavailable(f"no relay of {owner} is connected")

    async def ask(self, peer: Peer, what: What, first: int = 0, last: int = 0, block_hash: bytes = b"") -> bytes:
        """Ask one relay; ChainUnavailable, or ChainRefused where its endpoint said no."""
        ask = ChainAsk(self._random(REQUEST_SIZE), what, first, last, block_hash)
        answer: asyncio.Future[ChainAnswer] = asyncio.get_running_loop().create_future()
        self._asked[peer, ask.request] = answer
        try:
            if not peer.post(ask.encode()):
                raise ChainUnavailable("the relay does not read")
            async with asyncio.timeout(self._patience):
                found = await answer
        except TimeoutError as error:
            raise ChainUnavailable("the relay does not answer") from error
        finally:
            del self._asked[peer, ask.request]
        if found.verdict is Verdict.REFUSED:
            raise ChainRefused(what.name.lower(), "the relay's endpoint refused")
        if found.verdict is Verdict.UNAVAILABLE:
            raise ChainUnavailable("the relay's endpoint does not answer")
        return found.content


class OwnersChain:
    """A `Source`: what one owner's relays show."""

    def __init__(self, asking: ChainAsking, owner: str, relays: Sequence[bytes]) -> None:
        self._asking, self._owner, self._relays = asking, owner, tuple(relays)

    async def header(self, number: int | None = None) -> Header | None:
        what, place = (What.NEWEST, 0) if number is None else (What.HEADER, number)
        return self._read(read_header, await self._ask(what, place, place))

    async def logs(self, first: int, last: int) -> list[RawLog]:
        return self._read(read_logs, await self._ask(What.LOGS, first, last))

    async def logs_in(self, block_hash: bytes) -> list[RawLog]:
        return self._read(read_logs, await self._ask(What.LOGS_IN, block_hash=block_hash))

    async def _ask(self, what: What, first: int = 0, last: int = 0, block_hash: bytes = b"") -> bytes:
        peer = self._asking.reach(self._owner, self._relays)
        return await self._asking.ask(peer, what, first, last, block_hash)

    def _read(self, reader: Callable[[bytes], _Found], content: bytes) -> _Found:
        try:
            return reader(content)
        except ValueError as error:  # msgspec's errors are such
            raise ChainUnavailable("the relay's answer is none") from error
