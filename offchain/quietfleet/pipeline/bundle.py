"""What one processor gets of a release: the manifest with its own devices' models in it, and all artefacts in one.

A model that is nobody's own travels as its bare bytes. With others beside it they are one msgpack map, which is taken
apart before anything in it is believed: every artefact is then held against the manifest, and that against the chain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from quietfleet.errors import ModelRejected
from quietfleet.pipeline.onnx_guard import MAXIMUM_BYTES
from quietfleet.pipeline.runtime import MAXIMUM_MANIFEST_BYTES

MOST_PERSONAL: Final = 256
"""Devices of a processor with a model of their own."""
_FRAME: Final = 16  # bytes around each artefact, at most

_Artefact = Annotated[bytes, Meta(max_length=MAXIMUM_BYTES)]
_Name = Annotated[str, Meta(min_length=1, max_length=64)]


class _Packed(msgspec.Struct, frozen=True, tag="artefacts/1", forbid_unknown_fields=True):
    default: _Artefact
    personal: Annotated[dict[_Name, _Artefact], Meta(min_length=1, max_length=MOST_PERSONAL)]


class Bundle(NamedTuple):
    """A manifest (canonical JSON), the default's ONNX bytes, and those of single devices."""

    manifest: bytes
    default: bytes
    personal: dict[str, bytes]


_MAP: Final = range(0x80, 0x90)  # the first byte of a small msgpack map; no ONNX file begins so
_DECODER: Final = msgspec.msgpack.Decoder(_Packed)


def bundle(manifest: bytes, default: bytes, models: Iterable[tuple[str, bytes]], *, most: int) -> Bundle:
    """Add models of single devices to a default's manifest, the first ones first, as many as devices take.

    `models` are by the names their processor knows the devices by; `most` is how many bytes all artefacts may have
    together. Whoever finds no more room is forecast by the default.
    """
    plain: dict[str, Any] = json.loads(manifest)
    plain["models"]["personal"] = {}
    room, left = MAXIMUM_MANIFEST_BYTES - len(_canonical(plain)), most - len(default) - 4 * _FRAME
    chosen: dict[str, bytes] = {}
    for device, artefact in models:
        promised = {device: {"sha256": hashlib.sha256(artefact).hexdigest(), "size": len(artefact)}}
        needs, weighs = len(_canonical(promised)), len(artefact) + len(device) + _FRAME
        if needs > room or weighs > left or len(chosen) == MOST_PERSONAL:
            continue
        room, left = room - needs, left - weighs
        chosen[device] = artefact
        plain["models"]["personal"] |= promised
    return Bundle(_canonical(plain), default, chosen)


def pack(default: bytes, personal: Mapping[str, bytes]) -> bytes:
    """Return all artefacts as one payload."""
    return msgspec.msgpack.encode(_Packed(default, dict(personal))) if personal else default


def unpack(payload: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return the default's artefact and those of single devices; `ModelRejected` when it is no such payload."""
    if not payload or payload[0] not in _MAP:
        return payload, {}
    try:
        packed = _DECODER.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise ModelRejected(f"its artefacts are no payload: {type(error).__name__}") from error
    return packed.default, packed.personal


def _canonical(plain: Any) -> bytes:
    """As `package.canonical`, which a device cannot load."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
