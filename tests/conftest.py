"""What all suites share: examples that are the same in every run, and files that are kept in memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings

# No example fails for being slow. `thorough` is for a machine left alone: each run looks at other examples.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.register_profile("thorough", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

MEMORY = Path("/dev/shm")  # noqa: S108 - what is made there nobody else can read
ENOUGH = 2 << 30  # bytes


def pytest_configure() -> None:
    """Put the tests' files where waiting for the disk costs nothing; there, too, stays what a killed process wrote.

    Workers wait for the disk at every commit: on an ordinary one that is most of the tests' time.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ENOUGH:
        return
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)  # the one for other programs, the other is Python's cache
