"""Fleets left running after a demonstration: how the next one finds and ends them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Final

from quietfleet.testbed.anvil import Anvil
from quietfleet.testbed.fleet import Fleet
from quietfleet.workers.files import write_private

_WITHIN: Final = 10.0
_LOOK: Final = 0.05


def remember(folder: Path, anvil: Anvil, fleet: Fleet) -> None:
    """Write down which processes to end some day, and the passphrase of the workers' keystores (0600)."""
    workers = [member.process.pid for member in fleet.members.values() if member.process is not None and member.running]
    (folder / "kept.json").write_text(json.dumps({"processes": [*workers, anvil.pid]}))
    write_private(folder / "passphrase", fleet.passphrase)


def stop_kept(folder: Path) -> bool:
    """End the fleet that was kept in `folder`; tell whether there was one."""
    record = folder / "kept.json"
    if not record.exists():
        return False
    processes = [pid for pid in json.loads(record.read_text())["processes"] if _is_ours(pid)]
    for pid in processes:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + _WITHIN
    while any(_is_ours(pid) for pid in processes) and time.monotonic() < deadline:
        time.sleep(_LOOK)
    for pid in processes:
        if _is_ours(pid):
            _signal(pid, signal.SIGKILL)
    record.unlink()
    return True


def forget(deployments: Path, chain_id: int) -> None:
    """Remove what a demonstration wrote down of a chain that is gone."""
    for name in (f"{chain_id}.json", f"{chain_id}.book.json"):
        (deployments / name).unlink(missing_ok=True)


def _is_ours(pid: int) -> bool:
    """Tell whether the process still runs and is one a fleet starts: numbers are used again."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return not Path("/proc").exists() and _exists(pid)
    return b"quietfleet" in command or b"anvil" in command


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
