"""One RLPx connection on asyncio: moves a session's bytes, keeps its deadlines, and holds back who is too fast."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol, cast

from quietfleet.devp2p import Disconnected, Event, HelloReceived, MessageReceived, Reason, Session, State
from quietfleet.errors import LinkError
from quietfleet.network.address import Address
from quietfleet.network.link import LinkTiming, Message

_BATCH: Final = 64 * 1024  # bytes: more than this does not wait for the end of the loop's turn
_HIGH_WATER: Final = 256 * 1024  # bytes on their way out from which senders wait
_INBOX_BYTES: Final = 1024 * 1024  # received bytes from which the peer waits
_MESSAGE_COST: Final = 256  # what even an empty message counts in the inbox
_MAX_UPKEEP: Final = 256  # pings and the like from one of ours to the next; an honest peer sends one or two
_LINGER: Final = 1.0  # seconds for the last words to get out


class Owner(Protocol):
    """Who wants to know what becomes of a connection."""

    def entered(self, link: RlpxLink) -> None: ...

    def opened(self, link: RlpxLink) -> None: ...

    def holds(self, link: RlpxLink, held: int) -> None:
        """Note that the link keeps this many bytes in memory: an unfinished frame and messages not yet handled."""
        ...

    def left(self, link: RlpxLink, error: LinkError) -> None: ...


class RlpxLink(asyncio.Protocol):
    """A `Link`, of use once it told its owner that it is open; frames count as life, single bytes do not."""

    def __init__(self, session: Session, timing: LinkTiming, owner: Owner) -> None:
        self._session, self._timing, self._owner = session, timing, owner
        self._inbound = session.state is State.AWAITING_AUTH
        self._loop = asyncio.get_running_loop()
        self._remote = Address("", 0)
        self._capabilities: frozenset[str] = frozenset()
        self._transport: asyncio.Transport | None = None
        self._error: LinkError | None = None
        self._inbox: deque[Message] = deque()
        self._inbox_size = self._in_hand = self._noted = 0  # bytes: waiting or in hand; in hand; noted by the owner
        self._reading, self._heard, self._next_ping, self._upkeep = True, 0.0, 0.0, 0
        self._unsent, self._flush_due = 0, False
        self._news, self._writable, self._gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._writable.set()
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    # as a Link

    @property
    def peer(self) -> bytes:
        return self._session.peer

    @property
    def inbound(self) -> bool:
        return self._inbound

    @property
    def remote(self) -> Address:
        return self._remote

    @property
    def capabilities(self) -> frozenset[str]:
        return self._capabilities

    async def send(self, message: Message) -> None:
        """Send one message with whatever else this turn of the loop sends; wait while the peer is slow to read."""
        if self._error:
            raise _again(self._error)
        self._unsent += self._session.send(message.capability, message.code, message.payload)
        if self._unsent >= _BATCH:
            self._flush()
        elif not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        await self._writable.wait()
        if self._error:
            raise _again(self._error)

    async def receive(self) -> Message:
        """Return the next message, done with the one before; what came before the end is still handed out."""
        self._inbox_size -= self._in_hand
        self._in_hand = 0
        if not self._reading and self._inbox_size <= _INBOX_BYTES // 2:
            self._resume_reading()
        if not self._inbox:
            self._note_held()
        while not self._inbox:
            if self._error:
                raise _again(self._error)
            self._news.clear()
            await self._news.wait()
        message = self._inbox.popleft()
        self._in_hand = len(message.payload) + _MESSAGE_COST
        return message

    async def close(self, reason: Reason = Reason.REQUESTED) -> None:
        self._inbox.clear()
        if self._error is None:
            self._session.close(reason)
            self._end(LinkError("closed by us", cause="closed"))
        await self._gone.wait()

    # as a Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        transport.set_write_buffer_limits(_HIGH_WATER)
        name = transport.get_extra_info("peername")
        self._remote = Address(*name[:2]) if name else self._remote
        self._timer = self._loop.call_later(self._timing.handshake, self._fail_as, "handshake_timeout")
        self._owner.entered(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        frames = self._session.frames
        for event in self._session.feed(data):
            self._handle(event)
        if self._session.frames != frames:
            self._heard = self._loop.time()
        if self._session.upkeep - self._upkeep > _MAX_UPKEEP:
            self._fail_as("chatter")
        self._note_held()
        self._flush()

    def pause_writing(self) -> None:
        self._writable.clear()
        self._write_timer = self._loop.call_later(self._timing.write, self._fail_as, "write_timeout")

    def resume_writing(self) -> None:
        if self._write_timer:
            self._write_timer.cancel()
        self._writable.set()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        transport, self._transport = self._transport, None
        self.fail(LinkError(str(error or "the peer hung up"), cause="hung_up"))
        self._stop_timers()
        self._gone.set()
        if transport and self._error:
            self._owner.left(self, self._error)

    # both

    def fail(self, error: LinkError) -> None:
        """End at once and without a word."""
        if self._note(error) and self._transport:
            self._transport.abort()

    def _end(self, error: LinkError) -> None:
        """End with the session's last words."""
        transport = self._transport
        if self._note(error) and transport:
            transport.write(self._session.output())
            transport.close()
            self._timer = self._loop.call_later(_LINGER, transport.abort)

    def _note(self, error: LinkError) -> bool:
        """Wake all who wait, with the first error; False if there was one already."""
        if self._error:
            return False
        self._error = error
        self._stop_timers()
        self._news.set()
        self._writable.set()
        return True

    def _note_held(self) -> None:
        held = self._session.held + self._inbox_size
        if held != self._noted and self._transport:
            self._noted = held
            self._owner.holds(self, held)

    def _handle(self, event: Event) -> None:
        if isinstance(event, MessageReceived):
            self._take_in(Message(event.capability, event.code, event.payload))
        elif isinstance(event, HelloReceived):
            self._open(event.shared)
        elif isinstance(event, Disconnected):
            reason = event.reason.name.lower() if event.reason is not None else "left"
            self._end(LinkError(f"the peer says: {reason}", cause=f"peer_{reason}"))
        else:
            self._end(event.error)

    def _take_in(self, message: Message) -> None:
        self._inbox.append(message)
        self._inbox_size += len(message.payload) + _MESSAGE_COST
        self._news.set()
        if self._reading and self._inbox_size > _INBOX_BYTES and self._transport:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        self._reading, self._heard = True, self._loop.time()
        if self._transport and not self._error:
            self._transport.resume_reading()

    def _open(self, shared: frozenset[str]) -> None:
        self._capabilities = shared
        self._heard = self._loop.time()
        self._next_ping = self._heard + self._timing.ping
        self._stop_timers()
        self._tick()
        self._owner.opened(self)

    def _tick(self) -> None:
        """Ping when it is time, and give a silent peer up; whom we do not listen to is not silent."""
        now = self._loop.time()
        if not self._reading:
            self._heard = now
        if now >= self._heard + self._timing.read:
            self._fail_as("read_timeout")
            return
        if now >= self._next_ping:
            self._next_ping, self._upkeep = now + self._timing.ping, self._session.upkeep
            self._session.ping()
            self._flush()
        self._timer = self._loop.call_at(min(self._next_ping, self._heard + self._timing.read), self._tick)

    def _flush(self) -> None:
        """Hand what is to be sent to the transport, unless that has enough."""
        self._flush_due = False
        if self._transport and not self._error and self._writable.is_set():
            self._unsent = 0
            if output := self._session.output():
                self._transport.write(output)

    def _fail_as(self, cause: str) -> None:
        self.fail(LinkError(cause.replace("_", " "), cause=cause))

    def _stop_timers(self) -> None:
        for timer in (self._timer, self._write_timer):
            if timer:
                timer.cancel()


def _again(error: LinkError) -> LinkError:
    """Return the error anew, as each raising of one and the same would lengthen its traceback."""
    return type(error)(*error.args, cause=error.cause)
