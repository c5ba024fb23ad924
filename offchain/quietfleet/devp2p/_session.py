"""One link's protocol without its I/O: bytes in, events out, bytes to send out."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from quietfleet.crypto import PrivateKey, PublicKey
from quietfleet.devp2p._codes import decode_code, encode_code
from quietfleet.devp2p._events import Disconnected, Event, Failed, HelloReceived, MessageReceived
from quietfleet.devp2p._frames import MAX_FRAME, FrameReader, FrameWriter
from quietfleet.devp2p._handshake import Initiator, Random, Recipient, Shaken
from quietfleet.devp2p._hello import (
    NODE_ID_SIZE,
    P2P_VERSION,
    SNAPPY_SINCE,
    Hello,
    decode_disconnect,
    encode_disconnect,
)
from quietfleet.devp2p._machine import MOVES, State, Step
from quietfleet.devp2p._snappy import compress, decompress
from quietfleet.devp2p.capability import BASE_LENGTH, Capability, shared_offsets
from quietfleet.devp2p.reason import Reason
from quietfleet.errors import FrameError, LinkError

_HELLO, _DISCONNECT, _PING, _PONG = range(4)
_EMPTY: Final = b"\xc0"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a node is on all its links, and the most bytes it takes as a Hello and as any other payload."""

    key: PrivateKey
    capabilities: Sequence[Capability]
    client: str = ""
    version: int = P2P_VERSION
    max_hello: int = 2048
    max_payload: int = MAX_FRAME

    def hello(self) -> Hello:
        names = tuple((each.name, each.version) for each in self.capabilities)
        return Hello(self.version, self.client, names, self.key.public.to_bytes())


class Session:
    """One side of a link; `dialled` is the peer's key when it is we who dial.

    Feed it what arrives, and send what `output` returns after each call, in order. It never raises for what a peer
    sends: the last event is then `Failed`. Bytes that cannot be are never answered.
    """

    def __init__(
        self,
        profile: Profile,
        dialled: PublicKey | None = None,
        random: Random = secrets.token_bytes,
    ) -> None:
        self._profile = profile
        self._output: list[bytes] = []
        self._pong_due = self._snappy = False
        self._reader: FrameReader | None = None
        self._writer: FrameWriter | None = None
        self._codes: list[tuple[str, int]] = []  # what the codes from 16 on mean
        self._offsets: dict[str, tuple[int, int]] = {}  # first code and length of each shared capability
        self.peer = dialled.to_bytes() if dialled else b""  # proved once the Hello is in
        self.frames = 0  # how many came whole
        self.upkeep = 0  # how many of them were of no use to anyone but the link
        self._shaking: Initiator | Recipient | None
        if dialled is None:
            self.state = State.AWAITING_AUTH
            self._shaking = Recipient(profile.key, random)
        else:
            self.state = State.AWAITING_ACK
            self._shaking = initiator = Initiator(profile.key, dialled, random)
            self._output.append(initiator.auth)

    @property
    def held(self) -> int:
        """How many bytes wait in memory for the rest of their frame."""
        return self._reader.held if self._reader else 0

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes in and return what happened, in order."""
        events: list[Event] = []
        try:
            if self._shaking is not None:
                data = self._shake(self._shaking, data)
            self._read_frames(data, events)
        except LinkError as error:
            if self.state is not State.CLOSED:
                self._move(Step.FAULT)
            events.append(Failed(error))
        return events

    def output(self) -> bytes:
        """Return what is to be sent, once."""
        output = b"".join(self._output)
        self._output.clear()
        self._pong_due = False
        return output

    def send(self, capability: str, code: int, payload: bytes) -> int:
        """Add a message to the output and return its bytes there; FrameError if it does not fit this link."""
        first, length = self._offsets.get(capability, (0, 0))
        if not 0 <= code < length:
            raise FrameError(f"no code {code} of {capability} on this link", cause="bad_code")
        if len(payload) > MAX_FRAME:
            raise FrameError(f"a payload of {len(payload)} bytes", cause="too_large")
        return self._write(first + code, payload)

    def ping(self) -> None:
        """Add a sign of life to the output."""
        if self.state is State.OPEN:
            self._write(_PING, _EMPTY)

    def close(self, reason: Reason) -> None:
        """End the session, with a last word to the peer if it can read one."""
        if self.state is not State.CLOSED:
            if self._writer:
                self._write(_DISCONNECT, encode_disconnect(reason))
            self._move(Step.HANG_UP)

    def _move(self, step: Step) -> None:
        """Go where the table says; FrameError where it says nothing."""
        try:
            self.state = MOVES[self.state][step]
        except KeyError:
            raise FrameError(f"{step} while {self.state}", cause="bad_order") from None
        if self.state is State.CLOSED:
            self._reader, self._shaking = None, None
            self._offsets = {}

    def _shake(self, shaking: Initiator | Recipient, data: bytes) -> bytes:
        """Go on with the handshake; when it is done say Hello, and return what came behind it."""
        shaken = shaking.feed(data)
        if shaken is None:
            return b""
        self._shaking = None
        self._move(Step.ACK if self.peer else Step.AUTH)
        self._begin(shaken)
        return shaken.rest

    def _begin(self, shaken: Shaken) -> None:
        self.peer = shaken.peer.to_bytes()
        self._output.append(shaken.reply)
        self._writer = FrameWriter(shaken.secrets)
        self._reader = FrameReader(shaken.secrets, self._profile.max_hello + 1)
        if shaken.peer == self._profile.key.public:
            self._refuse(Reason.CONNECTED_TO_SELF, "self")
        self._write(_HELLO, self._profile.hello().encode())

    def _read_frames(self, data: bytes, events: list[Event]) -> None:
        if self._reader:
            self._reader.feed(data)
        while self._reader and (content := self._reader.next()) is not None:
            self.frames += 1
            event = self._take(content)
            if event is not None:
                events.append(event)

    def _take(self, content: memoryview) -> Event | None:
        code, start = decode_code(content)
        if code >= BASE_LENGTH:
            return self._take_message(code - BASE_LENGTH, content[start:])
        if code == _DISCONNECT:
            self._move(Step.DISCONNECT)
            return Disconnected(decode_disconnect(content[start:]))
        if self.state is State.AWAITING_HELLO and code == _HELLO:
            return self._take_hello(Hello.decode(bytes(content[start:])))
        self._move(Step.UPKEEP)
        self.upkeep += 1
        if code == _PING and not self._pong_due:  # who pings without reading makes us hold one answer, not many
            self._pong_due = True
            self._write(_PONG, _EMPTY)
        return None

    def _take_message(self, index: int, payload: memoryview) -> MessageReceived:
        self._move(Step.MESSAGE)
        if index >= len(self._codes):
            raise FrameError(f"code {index + BASE_LENGTH} belongs to nothing", cause="bad_code")
        capability, code = self._codes[index]
        return MessageReceived(capability, code, self._unpack(payload))

    def _unpack(self, payload: memoryview) -> bytes:
        limit = self._profile.max_payload
        if self._snappy:
            return decompress(payload, limit)
        if len(payload) > limit:
            raise FrameError(f"a payload of {len(payload)} bytes", cause="bad_size")
        return bytes(payload)

    def _take_hello(self, hello: Hello) -> HelloReceived:
        if len(hello.node_id) != NODE_ID_SIZE or not any(hello.node_id):
            self._refuse(Reason.INVALID_IDENTITY, "invalid_identity")
        self._snappy = min(self._profile.version, hello.version) >= SNAPPY_SINCE
        if hello.node_id != self.peer:
            self._refuse(Reason.UNEXPECTED_IDENTITY, "unexpected_identity")
        offsets = shared_offsets(self._profile.capabilities, hello.capabilities)
        if not offsets:
            self._refuse(Reason.USELESS_PEER, "useless_peer")
        self._move(Step.HELLO)
        self._share(offsets)
        return HelloReceived(hello, frozenset(self._offsets))

    def _share(self, offsets: dict[Capability, int]) -> None:
        self._offsets = {each.name: (first, each.length) for each, first in offsets.items()}
        self._codes = [(each.name, code) for each in offsets for code in range(each.length)]
        if self._reader:
            most = self._profile.max_payload
            self._reader.limit = min(MAX_FRAME, most + most // 6 + 41)  # snappy's worst case, and a code

    def _refuse(self, reason: Reason, cause: str) -> None:
        """Tell the peer why we cannot work with it, and end."""
        self._write(_DISCONNECT, encode_disconnect(reason))
        self._move(Step.REFUSAL)
        raise LinkError(reason.name.lower().replace("_", " "), cause=cause)

    def _write(self, code: int, payload: bytes) -> int:
        if self._writer is None:
            raise LinkError("nothing can be sent before the handshake")
        frame = self._writer.seal(encode_code(code) + (compress(payload) if self._snappy else payload))
        self._output.append(frame)
        return len(frame)
