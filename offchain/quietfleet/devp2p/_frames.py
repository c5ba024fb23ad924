"""RLPx frames: header (16) ‖ MAC (16) ‖ body, padded to blocks ‖ MAC (16).

Each direction is one AES-256-CTR key stream and one Keccak state that never end. The digest a MAC starts from is the
one the MAC before ended with, so three digests a frame are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB

from quietfleet.crypto import RunningKeccak
from quietfleet.devp2p._secrets import Secrets
from quietfleet.errors import FrameError

MAX_FRAME: Final = 0xFFFFFF  # bytes of code and payload: what three bytes of size can say
_BLOCK: Final = 16
_HEAD: Final = 2 * _BLOCK
_HEADER_DATA: Final = b"\xc2\x80\x80" + bytes(10)  # RLP [capability 0, context 0] and padding; nobody reads it


class _Mac:
    """One direction's running MAC."""

    __slots__ = ("_absorb", "_digest", "_last", "_mask")

    def __init__(self, state: RunningKeccak, mask: Callable[[bytes], bytes]) -> None:
        self._absorb, self._digest, self._mask = state.update, state.digest, mask
        self._last = state.digest()[:_BLOCK]

    def of_header(self, header: bytes | bytearray) -> bytes:
        self._absorb(_xor(self._mask(self._last), header))
        self._last = self._digest()[:_BLOCK]
        return self._last

    def of_body(self, body: bytes | memoryview) -> bytes:
        self._absorb(body)
        seed = self._digest()[:_BLOCK]
        self._absorb(_xor(self._mask(seed), seed))
        self._last = self._digest()[:_BLOCK]
        return self._last


class FrameWriter:
    """Seals frames in the order they are to be sent."""

    __slots__ = ("_encrypt", "_mac")

    def __init__(self, secrets: Secrets) -> None:
        self._encrypt = _stream(secrets)
        self._mac = _Mac(secrets.egress, _masker(secrets))

    def seal(self, content: bytes) -> bytes:
        """Return one frame around a message: its code and payload, 1 to MAX_FRAME bytes; FrameError beyond."""
        size = len(content)
        if not 0 < size <= MAX_FRAME:
            raise FrameError(f"{size} bytes do not fit a frame", cause="too_large")
        sealed = self._encrypt(b"".join((size.to_bytes(3), _HEADER_DATA, content, bytes(-size % _BLOCK))))
        header, body = sealed[:_BLOCK], sealed[_BLOCK:]
        return b"".join((header, self._mac.of_header(header), body, self._mac.of_body(body)))


class FrameReader:
    """Collects bytes and opens the frames in them; holds at most one frame of `limit` bytes beside what was just fed.

    After a FrameError it is of no more use.
    """

    __slots__ = ("_at", "_buffer", "_decrypt", "_mac", "_size", "limit")

    def __init__(self, secrets: Secrets, limit: int) -> None:
        self.limit = limit
        self._decrypt = _stream(secrets)
        self._mac = _Mac(secrets.ingress, _masker(secrets))
        self._buffer, self._at = bytearray(), 0
        self._size = 0  # of the frame whose header was read; 0 between frames

    @property
    def held(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        """Take bytes in; call `next` until it returns None before feeding again."""
        self._buffer += data

    def next(self) -> memoryview | None:
        """Open the next frame; None until more bytes are fed; FrameError if it is none, or too large."""
        if not self._size and not self._read_header():
            return None
        padded = self._size + -self._size % _BLOCK
        body_end = self._at + padded
        if len(self._buffer) < body_end + _BLOCK:
            self._compact()
            return None
        with memoryview(self._buffer) as view, view[self._at : body_end] as body:
            expected = self._mac.of_body(body)
            content = self._decrypt(body)
        self._at = body_end + _BLOCK
        if not compare_digest(self._buffer[body_end : self._at], expected):
            raise FrameError("a body was altered", cause="bad_mac")
        size, self._size = self._size, 0
        return memoryview(content)[:size]

    def _read_header(self) -> bool:
        middle, end = self._at + _BLOCK, self._at + _HEAD
        if len(self._buffer) < end:
            self._compact()
            return False
        header = self._buffer[self._at : middle]
        if not compare_digest(self._buffer[middle:end], self._mac.of_header(header)):
            raise FrameError("a header was altered", cause="bad_mac")
        self._at = end
        self._size = int.from_bytes(self._decrypt(header)[:3])
        if not 0 < self._size <= self.limit:
            raise FrameError(f"a frame of {self._size} bytes", cause="bad_size")
        return True

    def _compact(self) -> None:
        """Forget what was read; once for each feeding, so that no byte is moved twice."""
        del self._buffer[: self._at]
        self._at = 0


def _stream(secrets: Secrets) -> Callable[[bytes | bytearray | memoryview], bytes]:
    return Cipher(AES(secrets.aes), CTR(bytes(_BLOCK))).encryptor().update


def _masker(secrets: Secrets) -> Callable[[bytes], bytes]:
    return Cipher(AES(secrets.mac), ECB()).encryptor().update  # noqa: S305 -- single blocks, as RLPx's MAC has it


def _xor(one: bytes, other: bytes | bytearray) -> bytes:
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(_BLOCK)
