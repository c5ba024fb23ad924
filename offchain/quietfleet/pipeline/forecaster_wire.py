"""What a worker and the process of its models say to each other: MessagePack behind four bytes of length."""

from __future__ import annotations

import struct
from typing import Annotated, Final

from msgspec import Meta, Struct

HEADER: Final = struct.Struct("<I")


class Load(Struct, frozen=True, tag="load", array_like=True):
    """Check a model and have it ready under a number."""

    model: int
    width: int
    artifact: bytes
    personal: dict[str, bytes]


class Run(Struct, frozen=True, tag="run", array_like=True):
    """Forecast `count` rows of little-endian float32, one after the other, with a device's own model if it has one."""

    model: int
    device: str
    count: int
    rows: bytes


class RunEach(Struct, frozen=True, tag="each", array_like=True):
    """Forecast one row for each device of those that asked together."""

    model: int
    devices: list[str]
    rows: bytes


class Drop(Struct, frozen=True, tag="drop", array_like=True):
    """Forget a model."""

    model: int


class Ready(Struct, frozen=True, tag="ready", array_like=True):
    """The process is up, within its limits."""


class Done(Struct, frozen=True, tag="done", array_like=True):
    """It is loaded, or forgotten."""


class Values(Struct, frozen=True, tag="values", array_like=True):
    """One little-endian float32 a row, and the nanoseconds they took."""

    values: bytes
    took: Annotated[int, Meta(ge=0)] = 0


class EachValue(Struct, frozen=True, tag="eachvalue", array_like=True):
    """One little-endian float32 a row; those at the places `failed` mean nothing."""

    values: bytes
    failed: list[Annotated[int, Meta(ge=0)]]
    took: Annotated[int, Meta(ge=0)] = 0


class Failed(Struct, frozen=True, tag="failed", array_like=True):
    """It is not done, and why; `rejected` if the model is none that a device takes."""

    why: Annotated[str, Meta(max_length=1024)]
    rejected: bool = False


Answer = Ready | Done | Values | EachValue | Failed
