"""The shelf of the settings, looked at apart from everything else: it may be another machine's, and may hang."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from quietfleet.settings import Settings
from quietfleet.storage import EncryptedObjects, FolderShelf, Reference
from quietfleet.workers.messages import SHELVED

Result = TypeVar("Result")


class ArtefactShelf:
    """Artefacts, sealed, in a folder that workers share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, artefact: bytes) -> Reference:
        """Seal and keep an artefact; StorageError or OSError."""
        return await _apart(lambda: self._objects().put(artefact))

    async def get(self, reference: Reference, within: float) -> bytes:
        """Return what its sender sealed; StorageError, or OSError, also when that takes more than so many seconds."""
        return await asyncio.wait_for(_apart(lambda: self._objects().get(reference)), within)

    def _objects(self) -> EncryptedObjects:
        return EncryptedObjects(FolderShelf(self._folder), most=SHELVED)


def open_shelf(settings: Settings) -> ArtefactShelf | None:
    """Return the shelf of the settings, if they name one."""
    return ArtefactShelf(settings.path(settings.storage.shelf)) if settings.storage.shelf else None


async def _apart(work: Callable[[], Result]) -> Result:
    """Run what may block for ever in a thread of its own, which keeps neither the loop nor the process from ending."""
    outcome: Future[Result] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whoever waits for it is told, whatever it is
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)
