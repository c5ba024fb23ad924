"""The two packets of the RLPx handshake, in both formats.

EIP-8: size (2 bytes) ‖ ECIES(RLP list ‖ padding), the size authenticated. The old one: ECIES of fixed fields, one after
the other. Lists may have items we do not know, and any version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Final, Self

from quietfleet.crypto import ECIES_OVERHEAD, SIGNATURE_SIZE, PrivateKey, PublicKey, ecies_open, ecies_seal, rlp
from quietfleet.devp2p._rlp import items, string
from quietfleet.errors import CryptoError, FrameError

NONCE_SIZE: Final = 32
KEY_SIZE: Final = 64
MAX_PACKET: Final = 2048  # bytes; other implementations send a quarter of it
_VERSION: Final = 4
_SIZE: Final = 2
_UNCOMPRESSED: Final = 4  # what a point, and so an old packet, begins with
_LEAST_PADDING: Final = 100
_PADDING_RANGE: Final = 200  # geth pads 100 to 299 bytes too, so that sizes tell nothing


@dataclass(frozen=True, slots=True)
class Auth:
    """The initiator's packet."""

    signature: bytes
    static: bytes
    nonce: bytes

    OLD_SIZE: ClassVar[int] = ECIES_OVERHEAD + SIGNATURE_SIZE + 32 + KEY_SIZE + NONCE_SIZE + 1

    def fields(self) -> list[bytes]:
        return [self.signature, self.static, self.nonce]

    @classmethod
    def from_old(cls, text: bytes) -> Self:
        return cls(text[:65], text[97:161], text[161:193])

    @classmethod
    def from_list(cls, text: bytes) -> Self:
        return cls(*_strings(text, SIGNATURE_SIZE, KEY_SIZE, NONCE_SIZE))


@dataclass(frozen=True, slots=True)
class Ack:
    """The recipient's packet."""

    ephemeral: bytes
    nonce: bytes

    OLD_SIZE: ClassVar[int] = ECIES_OVERHEAD + KEY_SIZE + NONCE_SIZE + 1

    def fields(self) -> list[bytes]:
        return [self.ephemeral, self.nonce]

    def to_old(self) -> bytes:
        return self.ephemeral + self.nonce + b"\0"

    @classmethod
    def from_old(cls, text: bytes) -> Self:
        return cls(text[:64], text[64:96])

    @classmethod
    def from_list(cls, text: bytes) -> Self:
        return cls(*_strings(text, KEY_SIZE, NONCE_SIZE))


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet that arrived: what it says once opened, and its bytes on the wire, which go into the MACs."""

    text: bytes
    wire: bytes
    old: bool


class PacketReader:
    """Collects one packet from a stream and opens it; what follows is handed back.

    No packet is longer than MAX_PACKET, and each is opened once, however small the pieces it comes in.
    """

    def __init__(self, key: PrivateKey, old_size: int) -> None:
        self._key = key
        self._old_size = old_size
        self._old_tried = False
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Packet | None:
        """Take bytes in; return the packet when it is whole, None before; FrameError if it cannot be one."""
        self._buffer += data
        if len(self._buffer) < _SIZE:
            return None
        if self._buffer[0] == _UNCOMPRESSED and not self._old_tried:
            if len(self._buffer) < self._old_size:
                return None
            self._old_tried = True
            if packet := self._open_old():
                return packet
        return self._open()

    def rest(self) -> bytes:
        """Return what came after the packet."""
        return bytes(self._buffer)

    def _open_old(self) -> Packet | None:
        wire = bytes(self._buffer[: self._old_size])
        try:
            text = ecies_open(self._key, wire)
        except CryptoError:
            return None  # a point's first byte may also be a size's
        del self._buffer[: self._old_size]
        return Packet(text, wire, old=True)

    def _open(self) -> Packet | None:
        end = _SIZE + int.from_bytes(self._buffer[:_SIZE])
        if end > MAX_PACKET:
            raise FrameError(f"a handshake packet of {end} bytes", cause="bad_handshake")
        if len(self._buffer) < end:
            return None
        wire = bytes(self._buffer[:end])
        del self._buffer[:end]
        try:
            return Packet(ecies_open(self._key, wire[_SIZE:], authenticated=wire[:_SIZE]), wire, old=False)
        except CryptoError as error:
            raise FrameError(str(error), cause="bad_handshake") from error


def seal_packet(public: PublicKey, fields: list[bytes], random: Callable[[int], bytes]) -> bytes:
    """Write an EIP-8 packet to `public`, with random padding of random length."""
    text = rlp.encode([*fields, _VERSION])
    padding = random(_LEAST_PADDING + int.from_bytes(random(2)) % _PADDING_RANGE)
    size = (len(text) + len(padding) + ECIES_OVERHEAD).to_bytes(_SIZE)
    return size + ecies_seal(public, text + padding, random, authenticated=size)


def _strings(text: bytes, *sizes: int) -> list[bytes]:
    """Return the list's first items, one of each size; FrameError if it has others."""
    fields = [string(item) for item in islice(items(text), len(sizes))]
    if [len(field) for field in fields] != list(sizes):
        raise FrameError("a handshake packet with other fields", cause="bad_handshake")
    return fields
