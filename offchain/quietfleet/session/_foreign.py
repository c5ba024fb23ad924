"""Reading what others wrote: whatever is wrong with it, one error."""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

from quietfleet.errors import MessageRefused

Kind = TypeVar("Kind")

_FAR: Final = 1e15
Finite = Annotated[float, msgspec.Meta(ge=-_FAR, le=_FAR)]
"""A number one can calculate with: neither NaN nor infinite, both of which msgpack can carry."""

FAILURES: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
"""What msgspec raises on hostile bytes, deep nesting and broken UTF-8 included."""


def read(decoder: msgspec.msgpack.Decoder[Kind], data: bytes) -> Kind:
    """Decode foreign bytes; raises `MessageRefused` for anything that is not what the decoder expects."""
    try:
        return decoder.decode(data)
    except FAILURES as error:
        raise MessageRefused(type(error).__name__) from error
