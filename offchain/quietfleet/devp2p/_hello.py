"""The first message of each side, and the last."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final, Self

from quietfleet.crypto import rlp
from quietfleet.devp2p._rlp import items, number, string
from quietfleet.devp2p._snappy import decompress
from quietfleet.devp2p.reason import Reason
from quietfleet.errors import FrameError

NODE_ID_SIZE: Final = 64
P2P_VERSION: Final = 5
SNAPPY_SINCE: Final = 5
_FIELDS: Final = 5
_NO_PORT: Final = 0  # whoever listens says so elsewhere
_LARGEST_DISCONNECT: Final = 64


@dataclass(frozen=True, slots=True)
class Hello:
    """Who a peer says it is and what it speaks; names are not to be trusted as text."""

    version: int
    client: str
    capabilities: tuple[tuple[str, int], ...]
    node_id: bytes

    def encode(self) -> bytes:
        pairs: list[rlp.Item] = [[name.encode(), version] for name, version in self.capabilities]
        return rlp.encode([self.version, self.client.encode(), pairs, _NO_PORT, self.node_id])

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read any version's Hello, whatever follows the five fields we know; FrameError on anything else."""
        fields = list(islice(items(payload), _FIELDS))
        if len(fields) != _FIELDS:
            raise FrameError(f"a Hello of {len(fields)} fields", cause="bad_hello")
        version, client, capabilities, port, node_id = fields
        number(port)  # of no use, but a node that gets it wrong is none
        return cls(number(version), _text(client), tuple(map(_pair, items(capabilities))), string(node_id))


def encode_disconnect(reason: Reason) -> bytes:
    return rlp.encode([reason])


def decode_disconnect(payload: memoryview) -> Reason | None:
    """Read why a peer leaves; None when it names no reason we know.

    Compressed or not, whatever was agreed: geth compresses neither before its Hello nor right after a Hello it refuses.
    """
    payload = payload[:_LARGEST_DISCONNECT]
    for read in (_inflated, bytes):
        with suppress(FrameError, ValueError):
            return _reason(read(payload))
    return None


def _inflated(payload: memoryview) -> bytes:
    return decompress(payload, _LARGEST_DISCONNECT)


def _reason(payload: bytes) -> Reason:
    return Reason(number(next(items(payload), b"\x80")))


def _pair(item: bytes) -> tuple[str, int]:
    fields = list(islice(items(item), 2))
    if len(fields) != 2:  # noqa: PLR2004 -- a pair
        raise FrameError("a capability without a version", cause="bad_hello")
    return _text(fields[0]), number(fields[1])


def _text(item: bytes) -> str:
    return string(item).decode(errors="replace")
