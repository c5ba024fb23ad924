"""A fitted scikit-learn pipeline in a file for engineers: skops, never pickle, opened only after a look inside.

The types that may be made are those which skops itself trusts, and no file is asked which others it would like. skops
has no limits of its own, and a small file can hold much, so the archive is measured before it is opened.
"""

from __future__ import annotations

import re
import zipfile
from io import BytesIO
from typing import Any, Final

from quietfleet.errors import ModelRejected

MOST_BYTES: Final = 16 << 20
MOST_OPENED: Final = 48 << 20
MOST_ENTRIES: Final = 4_096
_ENTRY: Final = re.compile(r"schema\.json|[0-9A-Za-z_-]{1,80}\.(npy|npz|txt|bin)")
_TRUSTED: Final[tuple[str, ...]] = ()
"""Types beyond those of scikit-learn, numpy and scipy that skops trusts: none.

Trees are not among these: put together of forged arrays they read memory that is not theirs. They travel as ONNX.
"""


def pack_model(model: Any) -> bytes | None:
    """Return a fitted estimator as an archive; None for one that nobody could open again."""
    import skops.io  # type: ignore[import-untyped]  # noqa: PLC0415 - takes a second to load

    try:
        packed: bytes = skops.io.dumps(model, compression=zipfile.ZIP_DEFLATED)
        open_model(packed)
    except Exception:  # noqa: BLE001 - whatever an engineer's own class does, its ONNX is what counts
        return None
    return packed


def open_model(archive: bytes) -> Any:
    """Open an archive; `ModelRejected` when it is too large, no archive, or names a type that is not trusted."""
    _measure(archive)
    import skops.io  # noqa: PLC0415 - as above

    try:
        return skops.io.loads(archive, trusted=list(_TRUSTED))
    except Exception as error:  # what skops and the types it makes raise shares no base
        raise ModelRejected(f"the archive is not of types that are trusted: {type(error).__name__}") from error


def _measure(archive: bytes) -> None:
    if len(archive) > MOST_BYTES:
        raise ModelRejected(f"{len(archive)} bytes, an archive has at most {MOST_BYTES}")
    try:
        with zipfile.ZipFile(BytesIO(archive)) as opened:
            entries = opened.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise ModelRejected("it is no archive") from error
    names = [entry.filename for entry in entries]
    if len(entries) > MOST_ENTRIES or len(set(names)) < len(names):
        raise ModelRejected(f"{len(entries)} files in it, some twice or more than {MOST_ENTRIES}")
    if not all(_ENTRY.fullmatch(name) for name in names):
        raise ModelRejected("a file in it has a name that skops gives none")
    if sum(entry.file_size for entry in entries) > MOST_OPENED:
        raise ModelRejected(f"opened it would be more than {MOST_OPENED} bytes")
