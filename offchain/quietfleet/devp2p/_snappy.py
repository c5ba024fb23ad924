"""Snappy blocks, as devp2p compresses payloads since version 5."""

from __future__ import annotations

from cramjam import DecompressionError, snappy

from quietfleet.errors import FrameError

_COPIES, _PER = 64, 3  # the most one element can write, and the bytes it takes


def compress(payload: bytes) -> bytes:
    return bytes(snappy.compress_raw(payload))


def decompress(block: memoryview, limit: int) -> bytes:
    """Return a block's content; FrameError if it is none, or says that it has more than `limit` bytes.

    What it says is checked before anything is allocated, also against what its length could hold at all.
    """
    data = bytes(block)
    try:
        size = snappy.decompress_raw_len(data)
        if size > limit or size * _PER > len(data) * _COPIES:
            raise FrameError(f"{len(data)} bytes of snappy say they are {size}", cause="bad_snappy")
        return bytes(snappy.decompress_raw(data))
    except DecompressionError as error:
        raise FrameError(str(error), cause="bad_snappy") from error
