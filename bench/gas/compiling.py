"""The product's contracts and the bench's own, compiled in one go with the settings of foundry.toml."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
_KEPT: Final = ROOT / ".build" / "bench"
_COMMAND: Final = (
    str(ROOT / "tools" / "solc"),
    "--base-path",
    ".",
    "--include-path",
    "node_modules",
    "--standard-json",
)


def settings() -> dict[str, Any]:
    """Return the compiler settings the product is built with."""
    profile = tomllib.loads((ROOT / "foundry.toml").read_text())["profile"]["default"]
    return {
        "evmVersion": profile["evm_version"],
        "optimizer": {"enabled": profile["optimizer"], "runs": profile["optimizer_runs"]},
        "viaIR": profile["via_ir"],
        "remappings": profile["remappings"],
        "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
    }


def compile_all() -> dict[str, dict[str, Any]]:
    """Return ABI and bytecode by contract name, from the last compilation if no source has changed since."""
    sources = _sources()
    job = json.dumps({"language": "Solidity", "sources": sources, "settings": settings()})
    kept = _KEPT / f"{hashlib.sha256(job.encode()).hexdigest()[:16]}.json"
    if not kept.exists():
        contracts = _compile(job)
        _KEPT.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(".part")
        unfinished.write_text(json.dumps(contracts))
        unfinished.rename(kept)
    found: dict[str, dict[str, Any]] = json.loads(kept.read_text())
    return found


def _sources() -> dict[str, dict[str, str]]:
    paths = sorted([*(ROOT / "contracts").rglob("*.sol"), *(ROOT / "bench" / "gas").rglob("*.sol")])
    return {str(path.relative_to(ROOT)): {"content": path.read_text()} for path in paths}


def _compile(job: str) -> dict[str, dict[str, Any]]:
    done = subprocess.run(  # noqa: S603 - our own compiler and sources
        _COMMAND, input=job, capture_output=True, text=True, cwd=ROOT, check=True
    )
    output = json.loads(done.stdout)
    errors = [one["formattedMessage"] for one in output.get("errors", ()) if one["severity"] == "error"]
    if errors:
        raise SystemExit("\n".join(errors))
    return {
        name: {"abi": one["abi"], "bytecode": one["evm"]["bytecode"]["object"]}
        for source in output["contracts"].values()
        for name, one in source.items()
    }
