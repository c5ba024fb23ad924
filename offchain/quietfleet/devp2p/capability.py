"""What a node can speak over a link, and which codes each protocol gets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

BASE_LENGTH: Final = 16  # the codes of devp2p itself


@dataclass(frozen=True, slots=True, order=True)
class Capability:
    """A protocol by name and version, and how many message codes it takes."""

    name: str
    version: int
    length: int


def shared_offsets(ours: Iterable[Capability], theirs: Iterable[tuple[str, int]]) -> dict[Capability, int]:
    """Return the first code of each capability both sides have: the highest version of a name, in byte order."""
    offered = set(theirs)
    newest = {each.name: each for each in sorted(ours) if (each.name, each.version) in offered}
    offsets, code = {}, BASE_LENGTH
    for capability in sorted(newest.values(), key=lambda each: each.name.encode()):
        offsets[capability] = code
        code += capability.length
    return offsets
