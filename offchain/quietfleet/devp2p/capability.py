"""What a node can speak over a link, and which codes each protocol gets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Capability:
    """A protocol by name and version, and how many message codes it takes."""

    name: str
    version: int
    length: int
