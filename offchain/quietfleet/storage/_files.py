"""Files in a folder or a bucket, by one face: each is complete or absent, never half, and gone when it is removed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from quietfleet.errors import ObjectMissing, ObjectTooLarge, SettingsError, StorageError, StoreOutOfReach
from quietfleet.storage._faults import fault_of
from quietfleet.storage._folder import _sync_folder

_NAME: Final = re.compile(r"\d{4}-\d{2}-\d{2}/[0-9a-f]{32}\.sealed")
_TIMEOUTS: Final = {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 2}}


class Files(Protocol):
    """Where the month's files are kept. Names are `<day>/<32 hexadecimal digits>.sealed`."""

    local: bool

    def put(self, name: str, data: bytes) -> None:
        """Keep a file durably."""
        ...

    def get(self, name: str, most: int) -> bytes:
        """Return its bytes; ObjectMissing, or ObjectTooLarge before more than `most` are in memory."""
        ...

    def remove(self, name: str) -> None:
        """Erase a file; returns only when it is not there."""
        ...

    def names(self) -> list[str]:
        """Every file that is there."""
        ...


def open_files(url: str, base: Path) -> FsspecFiles:
    """Open `file://<folder>` (relative to `base` without the slashes) or `s3://<bucket>/<folder>`.

    Where the bucket is, and by which account, the environment says, as it does to every S3 client. Raises
    `SettingsError`, also for a bucket that keeps versions: nothing would ever be erased there.
    """
    protocol, _, path = url.rpartition("://")
    if protocol in {"", "file"}:
        return FsspecFiles("file", str((base / path).resolve()))
    if protocol != "s3" or not path.strip("/"):
        raise SettingsError(f"[store] url = {url!r}: a folder, file://<folder> or s3://<bucket>/<folder> is needed")
    files = FsspecFiles("s3", path.strip("/"))
    with suppress(StoreOutOfReach):  # then it is asked before anything is written
        files.require_unversioned()
    return files


class FsspecFiles:
    """A folder of one of fsspec's file systems."""

    def __init__(self, protocol: str, root: str) -> None:
        import fsspec  # noqa: PLC0415 - sensors and processors do without

        self.local = protocol == "file"
        self.root = root
        self._erases = self.local
        options = {} if self.local else {"config_kwargs": _TIMEOUTS, "use_listings_cache": False}
        try:
            self._system: Any = fsspec.filesystem(protocol, **options)
        except ImportError as error:
            raise SettingsError("an s3:// store needs the package's extra `s3`") from error
        if self.local:
            Path(root).mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, name: str, data: bytes) -> None:
        path = self._path(name)
        if not self._erases:
            self.require_unversioned()
        with self._told(name):
            if self.local:
                self._put_durably(path, data)
            else:
                self._system.pipe_file(path, data)  # a bucket shows an object whole or not at all

    def get(self, name: str, most: int) -> bytes:
        path = self._path(name)
        with self._told(name), self._system.open(path, "rb", cache_type="none") as file:
            data: bytes = file.read(most + 1)
        if len(data) > most:
            raise ObjectTooLarge(f"{name} has more than {most} bytes")
        return data

    def remove(self, name: str) -> None:
        path = self._path(name)
        with self._told(name), suppress(FileNotFoundError):
            self._system.rm_file(path)
        if self.local:
            with self._told(name):
                Path(f"{path}.part").unlink(missing_ok=True)  # its writer was killed
        with self._told(name):
            if self._system.exists(path):
                raise StoreOutOfReach(f"{name} is still there after it was removed")
            if self.local and Path(path).parent.is_dir():
                self._tidy(Path(path).parent)

    def names(self) -> list[str]:
        with self._told(self.root):
            try:
                found = self._system.find(self.root)
            except FileNotFoundError:
                return []
        return sorted(str(path).removeprefix(self.root).lstrip("/") for path in found)

    def require_unversioned(self) -> None:
        """Raise `SettingsError` for a bucket that keeps what is deleted."""
        bucket = self.root.split("/", 1)[0]
        with self._told(bucket):
            kept = self._system.call_s3("get_bucket_versioning", Bucket=bucket).get("Status")
        if kept:
            raise SettingsError(
                f"bucket {bucket} keeps versions, so nothing is ever erased there: use one that does not"
            )
        self._erases = True

    def _put_durably(self, path: str, data: bytes) -> None:
        """Write beside, sync, rename, sync the folders."""
        folder, scratch = Path(path).parent, f"{path}.part"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._system.mv(scratch, path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
        for place in (folder, folder.parent):
            _sync_folder(place)

    def _tidy(self, folder: Path) -> None:
        _sync_folder(folder)
        with suppress(OSError):  # the day has other files
            folder.rmdir()

    def _path(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise StorageError(f"{name!r} is not the name of a file of the store")
        return f"{self.root}/{name}"

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Say what a failing disk or a bucket says in this package's errors."""
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissing(what) from error
        except OSError as error:
            known = fault_of(error) if self.local else None
            raise known or StoreOutOfReach(f"{what}: {_one_line(error)}") from error
        except StorageError:
            raise
        except Exception as error:
            if self.local:
                raise
            raise StoreOutOfReach(f"{what}: {_one_line(error)}") from error  # botocore has a family of its own


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def strays(files: Files, known: Iterable[str]) -> list[str]:
    """Files that nobody here wrote, or whose writer did not come to enter them."""
    return sorted(set(files.names()) - set(known))
