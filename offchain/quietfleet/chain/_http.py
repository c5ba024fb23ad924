"""web3's HTTP provider over connections of our own: what carries transactions.

web3 keeps the sessions of all providers behind one lock for the whole process, and a request that is cancelled at the
wrong moment, as by a time limit, never gives it back: from then on no endpoint would be reached again.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, ServerDisconnectedError
from web3 import AsyncHTTPProvider
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint, RPCResponse

LONGEST: Final = 64 << 20
"""Bytes of an answer; what is longer would fill the memory."""

_ONCE: Final = "eth_sendRawTransaction"  # sent again, it may be refused as known: who sends it knows what that means


class Provider(AsyncHTTPProvider):
    """One endpoint; connections are kept and used again."""

    def __init__(self, url: str, timeout: float) -> None:
        super().__init__(url, exception_retry_configuration=None)
        self._url = url
        self._limit = ClientTimeout(total=timeout)
        self._session: ClientSession | None = None

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask; OSError, ValueError or msgspec.DecodeError if there is no answer."""
        try:
            return await super().make_request(method, params)
        except (ClientError, Web3Exception) as error:
            raise ConnectionError(str(error) or type(error).__name__) from error

    async def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:
        """Ask; once more if the endpoint had closed a connection that was kept."""
        try:
            return await self._post(request_data)
        except ServerDisconnectedError:
            if method == _ONCE:
                raise
            return await self._post(request_data)

    @staticmethod
    def decode_rpc_response(raw_response: bytes) -> RPCResponse:
        """Read an answer; a block's logs may be a megabyte, and a revocation among them."""
        answer: RPCResponse = msgspec.json.decode(raw_response)
        return answer

    async def disconnect(self) -> None:
        """Close the connections; the next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, data: bytes) -> bytes:
        if self._session is None:
            self._session = ClientSession(timeout=self._limit, raise_for_status=True)
        async with self._session.post(self._url, data=data, headers=self.get_request_headers()) as response:
            answer = bytearray()
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > LONGEST:
                    raise ClientError(f"more than {LONGEST} bytes")
            return bytes(answer)
