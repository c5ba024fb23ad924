"""What a worker does while its disk takes nothing: it goes on trying, sends nothing it could not note down, says so.

Whatever is to leave is journalled first, in a transaction; when that fails, nothing leaves. So a full disk holds a
worker up and costs it nothing else: what it heard meanwhile is sent to it again, and what it measured waits in memory.
A damaged disk ends it, since nothing it remembers could be trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from quietfleet.errors import StateDamaged, StorageError
from quietfleet.storage import fault_of

if TYPE_CHECKING:
    from quietfleet.workers._host import Host

AGAIN: Final = 1.0  # seconds before something that the disk did not take is tried again
CALM: Final = 5.0  # seconds without a fault after which one is over: small things fit where larger ones do not


class Disk:
    """Whether the last step could be kept, and if not, why."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._fault: StorageError | None = None
        self._since = self._last = 0.0
        self.missed = 0.0  # seconds that the last fault took, as long as nobody has acted upon it

    @property
    def words(self) -> str:
        """What is the matter, in one sentence; empty when nothing is."""
        return str(self._fault or "")

    def bears(self, error: BaseException) -> bool:
        """Take note of an error if the disk made it; raises `StateDamaged` where going on would be wrong."""
        fault = fault_of(error)
        if fault is None:
            return False
        if isinstance(fault, StateDamaged):
            raise fault from error
        if self._fault is None:
            self._since = self._host.clock.now()
            self._host.log_fault(str(fault))
        self._fault, self._last = fault, self._host.clock.now()
        self._host.metrics.count("disk_faults")
        return True

    @contextmanager
    def borne(self) -> Iterator[None]:
        """Do something whose failure, if the disk makes it fail, is only noted."""
        try:
            yield
        except Exception as error:
            if not self.bears(error):
                raise

    def took(self) -> None:
        """Enter that the disk takes things again, after a step that it took."""
        if self._fault is None or 0 <= self._host.clock.now() - self._last < CALM:
            return
        with self.borne():
            seconds = round(self._host.clock.now() - self._since, 1)
            self._host.note("disk-fault-over", was=type(self._fault).__name__, seconds=seconds)
            self._fault, self.missed = None, seconds
