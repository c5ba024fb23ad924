"""References as messages carry them, and objects as their keepers hand them back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from harness import Script, drawn, target

from quietfleet.crypto import SEAL_OVERHEAD, seal
from quietfleet.errors import ObjectCorrupt, ObjectSealed, StorageError
from quietfleet.storage import Reference, open_object, seal_object, sealed_size, swarm_address

KEY: Final = b"k" * 32
USE: Final = b"quietfleet object"


def _seeds() -> Iterator[bytes]:
    yield b"\x00" + bytes(range(64))
    yield b"\x00" + bytes(63)
    for stated in (0, 5, 4060, 2**63, 2**64 - 1):
        yield b"\x01\x00" + stated.to_bytes(8, "little") + b"hello"
    yield b"\x01\x01" + (5).to_bytes(8, "little") + b"hello"
    yield b"\x01\x02" + (4100).to_bytes(8, "little") + b"hello"
    reference, sealed = seal_object(b"an object", random=drawn())
    yield b"\x02" + bytes(reference) + sealed[:200]
    yield b"\x03" + bytes(40)


@target(_seeds, 512)
def storage_reference(data: bytes) -> None:
    script = Script(data)
    kind = script.number(4)
    if kind == 0:
        content = script.rest()
        with suppress(StorageError):
            assert bytes(Reference.from_bytes(content)) == content
    elif kind == 1:
        _open_framed(script)
    elif kind == 2:
        reference, content = script.take(64).ljust(64, b"\0"), script.rest()
        with suppress(ObjectCorrupt, ObjectSealed):
            open_object(Reference.from_bytes(reference), content)
    else:
        content = script.rest()
        with suppress(ObjectSealed):
            open_object(Reference(swarm_address(content), KEY), content)


def _open_framed(script: Script) -> None:
    """Seal any framing under the right key, in a size that objects have or in another."""
    size = (sealed_size(0), sealed_size(5000), 100)[script.number(3)] - SEAL_OVERHEAD
    framed = script.rest()[:size].ljust(size, b"\0")
    sealed = seal(KEY, framed, associated=USE, random=drawn())
    with suppress(ObjectSealed):
        content = open_object(Reference(swarm_address(sealed), KEY), sealed)
        assert len(content).to_bytes(8, "little") + content == framed[: 8 + len(content)]
        assert len(sealed) == sealed_size(len(content))
