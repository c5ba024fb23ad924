"""The address book: names and tags for workers that only this machine knows."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from quietfleet.crypto import checksum_address
from quietfleet.errors import BookError, NameRefused, NothingNamed, UnknownTag, UnknownWorkerName

VARIABLE: Final = "QUIETFLEET_BOOK"

_ID: Final = re.compile("0x[0-9a-fA-F]{40}")
_LONGEST: Final = 64


class _Page(msgspec.Struct, omit_defaults=True):
    """What the file holds: ids by name, and tagged ids by tag."""

    workers: dict[str, str] = {}
    tags: dict[str, list[str]] = {}


class AddressBook:
    """Local names and tags of workers; they never reach the chain.

    `{"workers": {"porch": "0x…"}, "tags": {"garden": ["0x…"]}}`; a file without tags is as good. It is read again
    whenever it has changed, so that a console left open knows what was named elsewhere since.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content: bytes | None = None
        self._page = _Page()
        self._names: dict[str, str] = {}
        self._read()

    @classmethod
    def beside(cls, record: Path, chain_id: int, environment: Mapping[str, str]) -> Self:
        """Open the book of a deployment file's chain: the file beside it, or the one that QUIETFLEET_BOOK names."""
        return cls(Path(environment.get(VARIABLE) or record.parent / f"{chain_id}.book.json"))

    def id_of(self, name: str) -> str:
        """Return the id behind a name, or the id itself; UnknownWorkerName when it is neither."""
        if _ID.fullmatch(name):
            return _checked(name)
        self._read()
        if name not in self._page.workers:
            raise UnknownWorkerName(_with_guess(name, self._page.workers))
        return self._page.workers[name]

    def name_of(self, id_: str) -> str:
        self._read()
        return self._names.get(id_.lower(), "")

    def tags_of(self, id_: str) -> tuple[str, ...]:
        self._read()
        return tuple(sorted(tag for tag, ids in self._page.tags.items() if id_ in ids))

    def tagged(self, tag: str) -> list[str]:
        """Return the ids that carry a tag; UnknownTag if none does."""
        self._read()
        if not self._page.tags.get(tag):
            raise UnknownTag(_with_guess(tag, self._page.tags))
        return list(self._page.tags[tag])

    def chosen(self, workers: Iterable[str], tag: str = "") -> list[str]:
        """Return the ids of named workers and of all with a tag, each once; NothingNamed if that is nobody."""
        found = [self.id_of(worker) for worker in workers] + (self.tagged(tag) if tag else [])
        if not found:
            raise NothingNamed
        return list(dict.fromkeys(found))

    def add(self, name: str, id_: str) -> None:
        """Name a worker and write the book."""
        _require_word(name)
        self._write(lambda page: page.workers.update({name: _checked(id_)}))

    def tag(self, id_: str, tags: Iterable[str]) -> None:
        """Put tags on a worker and write the book."""
        wanted = list(tags)
        for tag in wanted:
            _require_word(tag)

        def change(page: _Page) -> None:
            for tag in wanted:
                carriers = page.tags.setdefault(tag, [])
                carriers += [] if id_ in carriers else [id_]

        self._write(change)

    def untag(self, id_: str, tags: Iterable[str]) -> None:
        """Take tags off a worker, UnknownTag if it does not carry one of them, and write the book."""
        wanted, carried = list(dict.fromkeys(tags)), self.tags_of(id_)
        for tag in wanted:
            if tag not in carried:
                raise UnknownTag(f"{self.name_of(id_) or id_} carries {', '.join(carried) or 'none'}, and not {tag}")

        def change(page: _Page) -> None:
            for tag in wanted:
                page.tags[tag].remove(id_)
                if not page.tags[tag]:
                    del page.tags[tag]

        self._write(change)

    def _read(self) -> None:
        try:
            content = self.path.read_bytes() if self.path.exists() else b"{}"
            if content != self._content:
                self._take(msgspec.json.decode(content, type=_Page))
                self._content = content
        except (OSError, msgspec.MsgspecError) as error:
            raise BookError(f"{self.path}: {error}") from error

    def _take(self, page: _Page) -> None:
        workers = {name: self._id(id_) for name, id_ in page.workers.items()}
        self._page = _Page(workers, {tag: [self._id(id_) for id_ in ids] for tag, ids in page.tags.items()})
        self._names = {id_.lower(): name for name, id_ in reversed(workers.items())}  # of several, the first

    def _id(self, id_: str) -> str:
        if not _ID.fullmatch(id_):
            raise BookError(f"{self.path}: {id_} is no id, which is 0x and 40 hexadecimal digits")
        return checksum_address(bytes.fromhex(id_[2:]))

    def _write(self, change: Callable[[Any], object]) -> None:
        """Change what the file holds now, and put the whole in its place at once: half a book would lose a name."""
        self._read()
        change(self._page)
        content = msgspec.json.format(msgspec.json.encode(self._page), indent=2) + b"\n"
        try:
            _replace(self.path.resolve(), content)
        except OSError as error:
            raise BookError(f"{self.path}: {error}") from error
        self._read()


def _replace(path: Path, content: bytes) -> None:
    descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # its owner's alone
    try:
        with os.fdopen(descriptor, "wb") as file:
            if path.exists():
                os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode))
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        Path(made).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(made).unlink()
        raise


def _require_word(word: str) -> None:
    """Take what no command line takes for an option, nobody for an id, and no terminal for anything but text."""
    plain = word.isprintable() and word == word.strip() and "," not in word
    if not (word and plain and len(word) <= _LONGEST and not word.startswith(("0x", "-"))):
        raise NameRefused(repr(word))


def _checked(id_: str) -> str:
    """Spell an id as wallets do; one mistyped letter breaks the checksum that its capitals are."""
    if not _ID.fullmatch(id_):
        raise UnknownWorkerName(id_)
    spelled = checksum_address(bytes.fromhex(id_[2:]))
    if id_[2:] not in {spelled[2:], id_[2:].lower(), id_[2:].upper()}:
        raise UnknownWorkerName(f"{id_} has a typing mistake: its capitals do not fit")
    return spelled


def _with_guess(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, list(known), n=1)
    return f"{word}; did you mean {near[0]}?" if near else word
