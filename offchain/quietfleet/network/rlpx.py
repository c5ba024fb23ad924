"""The link layer of a running node: RLPx over TCP, as go-ethereum speaks it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from quietfleet.crypto import PrivateKey, PublicKey
from quietfleet.devp2p import Capability, Profile, Session
from quietfleet.errors import CryptoError, LinkError
from quietfleet.metrics import Metrics
from quietfleet.network.address import Address, Enode
from quietfleet.network.admission import Admission, Holdings
from quietfleet.network.link import SHH, STEM, Link, LinkTiming
from quietfleet.network.rlpx_link import RlpxLink

_MAX_HELD: Final = 192 << 20  # bytes of half-read frames and messages not yet handled, over all links


class RlpxLinks:
    """A `LinkLayer` under one node key.

    At most `max_pending` inbound handshakes run at a time, the oldest giving way, and at most `max_per_address`
    inbound connections come from one remote address, loopback included unless exempt. Inbound connections that never
    become links are counted as `network_refused` by cause.
    """

    def __init__(
        self,
        key: PrivateKey,
        capabilities: Sequence[Capability] = (SHH, STEM),
        timing: LinkTiming | None = None,
        *,
        max_pending: int = 64,
        max_per_address: int = 16,
        exempt_loopback: bool = False,
        max_held: int = _MAX_HELD,
        client: str = "",
        metrics: Metrics | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._profile = Profile(key, tuple(capabilities), client)
        self._timing, self._random = timing or LinkTiming(), random
        self._admission = Admission(max_pending, max_per_address, exempt_loopback=exempt_loopback)
        self._holdings = Holdings(max_held)
        self._metrics = metrics or Metrics()

    @property
    def node_id(self) -> bytes:
        return self._profile.key.public.to_bytes()

    async def dial(self, enode: Enode) -> Link:
        """Connect, shake hands and exchange Hellos with the holder of the enode's key; raise LinkError."""
        if enode.node_id == self.node_id:
            raise LinkError("that is ourselves", cause="self")
        peer = _key_of(enode)
        call, loop = _Call(self._holdings), asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timing.connect):
                await loop.create_connection(
                    lambda: RlpxLink(Session(self._profile, peer, self._random), self._timing, call),
                    enode.address.host,
                    enode.address.port,
                )
        except (OSError, UnicodeError) as error:  # the latter for names that cannot be looked up
            raise LinkError(f"{enode.address}: {error}", cause="unreachable") from error
        return await call.answered()

    async def listen(self, address: Address, accept: Callable[[Link], None]) -> RlpxListener:
        """Call `accept` with each inbound link once it is open; raise LinkError when the address is not to be had."""
        door = _Door(self._admission, self._holdings, self._metrics, accept)
        try:
            server = await asyncio.get_running_loop().create_server(
                lambda: RlpxLink(Session(self._profile, None, self._random), self._timing, door),
                address.host,
                address.port,
            )
        except (OSError, UnicodeError) as error:
            raise LinkError(f"{address}: {error}", cause="unreachable") from error
        return RlpxListener(server, door)


class RlpxListener:
    """An open port."""

    def __init__(self, server: asyncio.Server, door: _Door) -> None:
        self._server, self._door = server, door
        self.address = Address(*server.sockets[0].getsockname()[:2])

    def close(self) -> None:
        """Take no more, and drop those whose handshake is not done."""
        self._server.close()
        self._door.close()


class _Call:
    """The owner of a link that we dial."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._link: RlpxLink | None = None
        self._answer: asyncio.Future[RlpxLink] = asyncio.get_running_loop().create_future()

    async def answered(self) -> RlpxLink:
        """Wait until the link is open; nothing of it stays if we do not."""
        try:
            return await self._answer
        except asyncio.CancelledError:
            if self._link:
                self._link.fail(LinkError("given up", cause="closed"))
            raise

    def entered(self, link: RlpxLink) -> None:
        self._link = link

    def opened(self, link: RlpxLink) -> None:
        if not self._answer.done():
            self._answer.set_result(link)

    def holds(self, link: RlpxLink, held: int) -> None:
        self._holdings.note(link, held)

    def left(self, link: RlpxLink, error: LinkError) -> None:
        self._holdings.note(link, 0)
        if not self._answer.done():
            self._answer.set_exception(error)


class _Door:
    """The owner of all links that come in by one port."""

    def __init__(
        self, admission: Admission, holdings: Holdings, metrics: Metrics, accept: Callable[[Link], None]
    ) -> None:
        self._admission, self._holdings, self._metrics, self._accept = admission, holdings, metrics, accept
        self._entered: set[RlpxLink] = set()
        self._pending: set[RlpxLink] = set()
        self._closed = False

    def close(self) -> None:
        self._closed = True
        for link in tuple(self._pending):
            link.fail(LinkError("we stopped listening", cause="closed"))

    def entered(self, link: RlpxLink) -> None:
        self._pending.add(link)
        now = asyncio.get_running_loop().time()
        if self._closed:
            link.fail(LinkError("we stopped listening", cause="closed"))
        elif not self._admission.has_time(now):
            link.fail(LinkError("too many handshakes", cause="too_many_handshakes"))
        elif self._admission.enter(link, link.remote, now):
            self._entered.add(link)
        else:
            link.fail(LinkError("too many from there", cause="too_many_from_address"))

    def opened(self, link: RlpxLink) -> None:
        self._pending.discard(link)
        self._admission.settle(link)
        self._accept(link)

    def holds(self, link: RlpxLink, held: int) -> None:
        self._holdings.note(link, held)

    def left(self, link: RlpxLink, error: LinkError) -> None:
        self._holdings.note(link, 0)
        if link in self._entered:
            self._entered.remove(link)
            self._admission.leave(link, link.remote)
        if link in self._pending:
            self._pending.remove(link)
            self._metrics.count("network_refused", cause=error.cause)


def _key_of(enode: Enode) -> PublicKey:
    try:
        return PublicKey.from_bytes(enode.node_id)
    except CryptoError as error:
        raise LinkError(f"{enode}: {error}", cause="invalid_identity") from error
