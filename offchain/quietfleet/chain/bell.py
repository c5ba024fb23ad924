"""A WebSocket that says "look now": new heads wake the follower, and nothing is ever believed because of it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from web3 import AsyncWeb3, WebSocketProvider
from web3.exceptions import Web3Exception
from websockets.exceptions import WebSocketException

RECONNECT: Final = 5.0
"""Seconds before the WebSocket is tried again; the follower polls meanwhile."""


class Bell:
    """Rings at each new head while its context is open; silence means nothing."""

    def __init__(self, url: str, reconnect: float = RECONNECT) -> None:
        self._url = url
        self._reconnect = reconnect
        self._rung = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.rings = 0
        self.outages = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen(), name="chain bell")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def wait(self, seconds: float) -> None:
        """Return at the next ring, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return
        finally:
            self._rung.clear()

    def ring(self) -> None:
        """Wake whoever waits."""
        self.rings += 1
        self._rung.set()

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (OSError, TimeoutError, Web3Exception, WebSocketException):
                self.outages += 1
            await asyncio.sleep(self._reconnect)

    async def _listen_once(self) -> None:
        async with AsyncWeb3(WebSocketProvider(self._url)) as web3:
            await web3.eth.subscribe("newHeads")
            self.ring()  # heads may have passed while it was down
            async for _ in web3.socket.process_subscriptions():
                self.ring()
