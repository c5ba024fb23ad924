"""An OCI image layout: a folder that every tool of container registries copies to a registry and back.

Written so that the same image always has the same bytes: JSON in one form, index in order, no times but the image's
own. Read as a stranger's: nothing is opened but regular files in their places, nothing is read before its size is
known to be allowed, nothing is handed out before its digest is right.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, TypeVar

import msgspec

from quietfleet.errors import LayoutRefused

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
REF_NAME: Final = "org.opencontainers.image.ref.name"
TITLE: Final = "org.opencontainers.image.title"
REF_FORM: Final = r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*"
"""Names that are tags in every registry and references to every tool."""

LAYOUT_MARK: Final = "oci-layout"
_VERSION: Final = {"imageLayoutVersion": "1.0.0"}
_MOST_INDEX: Final = 1 << 20  # bytes
_MOST_MANIFEST: Final = 256 << 10
_MOST_NAMED: Final = 10  # in an error
_SHA256: Final = "sha256:"

T = TypeVar("T")
Digest = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A blob by digest and size (bytes), with what it is."""

    media_type: str
    digest: Digest
    size: Size
    annotations: dict[str, str] = {}
    artifact_type: str = ""
    urls: list[str] = []
    platform: dict[str, Any] = {}


class Image(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """An image manifest, of a container's root file system or of anything else (`artifact_type`)."""

    config: Descriptor
    layers: list[Descriptor]
    artifact_type: str = ""
    annotations: dict[str, str] = {}
    schema_version: int = -1
    media_type: str = ""


class _Index(msgspec.Struct, frozen=True, rename="camel"):
    manifests: list[Descriptor]
    schema_version: int


class Hashed:
    """A file that knows the digest of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    @property
    def hex(self) -> str:
        """SHA-256 of what was written."""
        return self._hash.hexdigest()

    def described(self, media_type: str, annotations: Mapping[str, str] | None = None) -> Descriptor:
        """Describe the blob that these bytes are."""
        return Descriptor(media_type, _SHA256 + self.hex, self.size, dict(annotations or {}))


class Writing:
    """A layout that is being written: this process is the only one that does."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._blobs = directory / "blobs" / "sha256"

    def put(self, media_type: str, data: bytes, annotations: Mapping[str, str] | None = None) -> Descriptor:
        """Store a blob, whole and durably."""
        with self.stream() as stream:
            stream.write(data)
        return stream.described(media_type, annotations)

    @contextmanager
    def stream(self) -> Iterator[Hashed]:
        """Store what is written meanwhile as a blob, for those that are too large to hold."""
        with _replacing(self._blobs) as (file, to):
            hashed = Hashed(file)
            yield hashed
            to.append(hashed.hex)

    def name(
        self, name: str, image: Image, *, platform: dict[str, Any] | None = None, replace: bool = False
    ) -> Descriptor:
        """Store an image manifest and let `name` mean it; LayoutRefused if the name means something else already."""
        whole = msgspec.structs.replace(image, schema_version=2, media_type=MANIFEST)
        stored = self.put(MANIFEST, msgspec.json.encode(whole, order="sorted"))
        entry = msgspec.structs.replace(
            stored, annotations={REF_NAME: name}, artifact_type=image.artifact_type, platform=platform or {}
        )
        index = self._index()
        others = [one for one in index["manifests"] if _name_of(one) != name]
        known = [one for one in index["manifests"] if _name_of(one) == name]
        if not replace and any(one.get("digest") != stored.digest for one in known):
            raise LayoutRefused(f"{self._directory} has another {name} already: name another folder")
        index["manifests"] = sorted([*others, msgspec.to_builtins(entry)], key=_name_of)
        with _replacing(self._directory) as (file, to):
            file.write(_canonical(index))
            to.append("index.json")
        return entry

    def _index(self) -> dict[str, Any]:
        """Return what stands there, with all that other tools keep in it."""
        if not (self._directory / "index.json").exists():
            return {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
        data = _read(self._directory, "index.json", most=_MOST_INDEX)
        _decoded(data, _Index)
        return dict(json.loads(data))


class OciLayout:
    """The layout in a folder."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """Have the layout to oneself; it is begun if there is none. LayoutRefused if the folder holds other things."""
        place = self.directory
        used = place.exists() and any(place.iterdir())
        if used and not (place / LAYOUT_MARK).is_file():  # which is there before all else
            raise LayoutRefused(f"{place} holds other things: name an empty folder or an OCI layout")
        for path in (place / LAYOUT_MARK, place / "index.json", place / "blobs", place / "blobs" / "sha256"):
            if path.is_symlink():  # it could lead anywhere
                raise LayoutRefused(f"{path} is a link: name another folder")
        place.mkdir(parents=True, exist_ok=True)
        with (place / LAYOUT_MARK).open("a+b") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX)
            if not mark.seek(0, os.SEEK_END):
                mark.write(_canonical(_VERSION))
                mark.flush()
            self._check_version()
            (place / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
            yield Writing(place)

    def names(self) -> list[str]:
        """What is in it."""
        return sorted(one.annotations[REF_NAME] for one in self._index().manifests if REF_NAME in one.annotations)

    def only(self) -> str:
        """Return the name of the only image; LayoutRefused if there is another number of them."""
        names = self.names()
        if len(names) != 1:
            raise LayoutRefused(f"say which image: it has {self._told()}")
        return names[0]

    def digest(self, name: str) -> str:
        """Return the digest of what `name` means, by which a registry knows it, too."""
        return self._entry(name).digest

    def image(self, name: str) -> Image:
        """Return what `name` means, its manifest verified; LayoutRefused at the first doubt."""
        entry = self._entry(name)
        if entry.media_type != MANIFEST:
            raise LayoutRefused(f"{name} is no image manifest but {entry.media_type!r:.80}")
        image = _decoded(self.blob(entry, most=_MOST_MANIFEST), Image)
        if image.schema_version != 2 or image.media_type not in {MANIFEST, ""}:  # noqa: PLR2004 -- the only one there is
            raise LayoutRefused(f"{name} is no image manifest")
        return image

    def blob(self, described: Descriptor, *, most: int) -> bytes:
        """Return a blob of at most `most` bytes, size and digest as described."""
        if described.urls:
            raise LayoutRefused("a blob that lies elsewhere: only what is in the folder is taken")
        if described.size > most:
            raise LayoutRefused(f"a blob of {described.size} bytes, at most {most} are allowed")
        data = _read(self.directory, "blobs", "sha256", described.digest.removeprefix(_SHA256), most=described.size)
        if len(data) != described.size or _SHA256 + hashlib.sha256(data).hexdigest() != described.digest:
            raise LayoutRefused(f"the blob {described.digest} is not what its name says")
        return data

    def _entry(self, name: str) -> Descriptor:
        found = [one for one in self._index().manifests if one.annotations.get(REF_NAME) == name]
        if len(found) != 1:
            raise LayoutRefused(f"{len(found)} images called {name!r:.80}; it has {self._told()}")
        return found[0]

    def _index(self) -> _Index:
        self._check_version()
        return _decoded(_read(self.directory, "index.json", most=_MOST_INDEX), _Index)

    def _check_version(self) -> None:
        version = _decoded(_read(self.directory, LAYOUT_MARK, most=_MOST_MANIFEST), dict[str, Any])
        if version.get("imageLayoutVersion") != _VERSION["imageLayoutVersion"]:
            raise LayoutRefused(f"{self.directory} is no OCI layout of version 1.0.0")

    def _told(self) -> str:
        names = self.names()
        more = [f"and {len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
        return ", ".join([*(f"{name:.80}" for name in names[:_MOST_NAMED]), *more]) or "none"


def _read(directory: Path, *parts: str, most: int) -> bytes:
    """Read a regular file that is really there; a link could lead anywhere, a pipe would never end."""
    *folders, name = parts
    handle = _opened(directory, os.O_DIRECTORY)
    try:
        for folder in folders:
            handle, above = _opened(folder, os.O_DIRECTORY | os.O_NOFOLLOW, handle), handle
            os.close(above)
        file = _opened(name, os.O_NOFOLLOW | os.O_NONBLOCK, handle)
    finally:
        os.close(handle)
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise LayoutRefused(f"{name} is no file")
        if about.st_size > most:
            raise LayoutRefused(f"{name} has {about.st_size} bytes, at most {most} are allowed")
        with os.fdopen(file, "rb", closefd=False) as opened:
            return opened.read(most)
    finally:
        os.close(file)


def _opened(path: Path | str, flags: int, within: int | None = None) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=within)
    except OSError as error:
        raise LayoutRefused(f"{path}: {error.strerror}") from error


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LayoutRefused(f"{error!s:.200}") from error


@contextmanager
def _replacing(folder: Path) -> Iterator[tuple[BinaryIO, list[str]]]:
    """Write a file beside its place and move it there whole; its name may be known only in the end."""
    to: list[str] = []
    handle, part = tempfile.mkstemp(dir=folder, prefix=".part-")
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 -- a descriptor
            yield file, to
            file.flush()
            os.fchmod(handle, 0o644)  # it is made to be passed on, and holds nothing that a registry would not show
            os.fsync(handle)
        Path(part).replace(folder / to[0])
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _name_of(entry: dict[str, Any]) -> str:
    return str((entry.get("annotations") or {}).get(REF_NAME, ""))


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
