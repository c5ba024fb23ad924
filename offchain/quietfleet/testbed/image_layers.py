"""Layers of a container image: files gathered from anywhere, packed the one way that always has the same bytes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

from quietfleet.storage._oci_layout import Descriptor, Writing

TAR: Final = "application/vnd.oci.image.layer.v1.tar"
_FOLDER, _PROGRAM, _FILE = 0o755, 0o755, 0o644
_MADE_BY_RUNNING: Final = ("__pycache__", ".pyc")


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a layer: a file's source or bytes, a link's target, or a folder; owned by root unless said."""

    mode: int = _FILE
    source: Path | None = None
    data: bytes | None = None
    link: str | None = None
    owner: int = 0


class Tree:
    """What a layer holds, by absolute path; the folders above are added by themselves."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def write(self, path: str, text: str, *, program: bool = False) -> None:
        """Add a file with this text."""
        self._add(path, Entry(_PROGRAM if program else _FILE, data=text.encode()))

    def link(self, path: str, to: str) -> None:
        """Add a symbolic link."""
        self._add(path, Entry(0o777, link=to))

    def folder(self, path: str, *, mode: int = _FOLDER, owner: int = 0) -> None:
        """Add a folder."""
        self._add(path, Entry(mode, owner=owner))

    def copy(self, path: str, source: Path, *, program: bool = False) -> None:
        """Add a file of this machine, what a link leads to in the place of a link."""
        self._add(path, Entry(_PROGRAM if program else _FILE, source=source))

    def copy_all(self, path: str, folder: Path, *, but: Iterable[str] = ()) -> None:
        """Add every file below a folder, without compiled modules and what matches a pattern of `but`, from the top."""
        left_out = tuple(but)
        for source in sorted(folder.rglob("*")):
            within = PurePosixPath(source.relative_to(folder).as_posix())
            made = _MADE_BY_RUNNING[0] in within.parts or within.suffix == _MADE_BY_RUNNING[1]
            if source.is_file() and not made and not any(_matches(within, pattern) for pattern in left_out):
                self.copy(f"{path}/{within}", source)

    def sources(self, wanted: Callable[[Path], bool]) -> list[Path]:
        """Return the files of this machine that are in it and wanted."""
        return [one.source for one in self.entries.values() if one.source is not None and wanted(one.source)]

    def pack(self, layout: Writing) -> Descriptor:
        """Store it as a layer: sorted, without times, without this machine's users."""
        with layout.stream() as stream:
            # a tar is written front to back: all it asks of its file is to be written to
            file = cast("IO[bytes]", stream)
            with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for path in sorted(self.entries):
                    _pack(tar, path, self.entries[path])
        return stream.described(TAR)

    def _add(self, path: str, entry: Entry) -> None:
        if not path.startswith("/") or ".." in PurePosixPath(path).parts:
            raise ValueError(f"{path} is no place in an image")
        for above in PurePosixPath(path).parents:
            if str(above) != "/":
                self.entries.setdefault(str(above), Entry(_FOLDER))
        self.entries[path] = entry


def _matches(within: PurePosixPath, pattern: str) -> bool:
    return any(one.match(pattern) for one in (within, *within.parents) if len(one.parts) == pattern.count("/") + 1)


def _pack(tar: tarfile.TarFile, path: str, entry: Entry) -> None:
    about = tarfile.TarInfo(path.lstrip("/"))
    about.mode, about.uid, about.gid = entry.mode, entry.owner, entry.owner
    if entry.link is not None:
        about.type, about.linkname = tarfile.SYMTYPE, entry.link
        tar.addfile(about)
    elif entry.source is not None:
        with entry.source.open("rb") as file:
            about.size = entry.source.stat().st_size
            tar.addfile(about, file)
    elif entry.data is not None:
        about.size = len(entry.data)
        tar.addfile(about, io.BytesIO(entry.data))
    else:
        about.type = tarfile.DIRTYPE
        tar.addfile(about)
