"""The field's own libraries, each in an environment of its own (`tools/drift-peers`), on the same streams."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import numpy as np
from bench.drift.scoring import Alarms
from bench.drift.streams import Stream, save

ROOT: Final = Path(__file__).parents[2]
SCRIPTS: Final = Path(__file__).parent / "peers"
PEERS: Final = {"evidently": "evidently", "nannyml": "nannyml", "river": "river", "alibi": "alibi-detect"}
TIMED: Final = {"Evidently": "evidently", "NannyML": "nannyml"}
SOME: Final = {"River KSWIN": (0, 6)}
"""Stretches that a slow method is run on, as its script says; the others are run on all."""
_SILENT: Final = {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1", "OMP_NUM_THREADS": "1"}


def judge(streams: list[Stream], folder: Path) -> dict[str, tuple[list[Stream], list[Alarms]]]:
    """Let every method of every peer judge the streams: what it was run on, and what it raised."""
    save(streams, folder / "streams.npz")
    found = {}
    for peer in PEERS:
        alarms = folder / f"{peer}.npz"
        _run(peer, "run", folder / "streams.npz", alarms)
        for name, raised in np.load(alarms).items():
            some = [one for one in streams if name not in SOME or one.stretch in SOME[name]]
            found[name] = (some, list(raised))
    return found


def timed(windows: Any, reference: Any, folder: Path) -> dict[str, float]:
    """CPU seconds that each timed peer takes for windows [devices, features, samples], its start left out."""
    np.savez(folder / "windows.npz", windows=windows, reference=reference)
    return {name: _run(peer, "speed", folder / "windows.npz")["seconds"] for name, peer in TIMED.items()}


def versions() -> str:
    """Which versions the environments hold, as the requirement files pin them."""
    said = []
    for peer, package in PEERS.items():
        lines = (ROOT / "requirements" / f"drift-{peer}.txt").read_text().splitlines()
        said += [line.split()[0].replace("==", " ") for line in lines if line.startswith(f"{package}==")]
    return ", ".join(said)


def _run(peer: str, *arguments: str | Path) -> dict[str, Any]:
    python = ROOT / ".venv-drift" / peer / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{peer} is not installed: run tools/drift-peers (`make bench-drift` does), or use --quick.")
    command = [str(python), str(SCRIPTS / f"{peer}_peer.py"), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | _SILENT)  # noqa: S603
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
