"""What fuzz targets are made of; knows nothing of the fuzzer, so that the corpus can be replayed without it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"
_SIZE: Final = 2

Harness = Callable[[bytes], None]
Seeds = Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class Target:
    """One decoder under fire: `run` takes any bytes and returns, or has found a fault; inputs of `longest` bytes."""

    name: str
    run: Harness
    seeds: Seeds
    longest: int

    @property
    def folder(self) -> Path:
        return CORPUS / self.name

    def corpus(self) -> list[Path]:
        """Return the inputs that are kept, in a fixed order."""
        return sorted(path for path in self.folder.glob("*") if path.is_file())

    def keep_all(self, contents: Iterable[bytes]) -> None:
        """Add inputs to the corpus, each named after what it holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for content in contents:
            (self.folder / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)


TARGETS: Final[dict[str, Target]] = {}


def target(seeds: Seeds, longest: int = 1024) -> Callable[[Harness], Harness]:
    """Enter a function as the target of its name."""

    def enter(run: Harness) -> Harness:
        TARGETS[run.__name__] = Target(run.__name__, run, seeds, longest)
        return run

    return enter


class Script:
    """Fuzzed bytes read as a script: small numbers, pieces that state their length, and the rest."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        begin, self._at = self._at, min(self._at + size, len(self._data))
        return self._data[begin : self._at]

    def number(self, below: int) -> int:
        return int.from_bytes(self.take(1)) % below

    def piece(self) -> bytes:
        return self.take(int.from_bytes(self.take(_SIZE)))

    def pieces(self) -> Iterator[bytes]:
        while self:
            yield self.piece()

    def rest(self) -> bytes:
        return self.take(len(self._data))


def pieces(*parts: bytes) -> bytes:
    """Write what `Script.pieces` reads."""
    return b"".join(len(part).to_bytes(_SIZE) + part for part in parts)


def drawn(seed: bytes = b"") -> Callable[[int], bytes]:
    """Return a source of bytes that is the same in each run."""
    count = 0

    def draw(size: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.shake_256(seed + count.to_bytes(8)).digest(size)

    return draw
