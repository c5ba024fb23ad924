"""`python -m bench.report`: writes bench/RESULTS.md from bench/results/*.json, which the benches write through `write`.

A result holds a title, sentences about it, and tables; machine, versions and date are added here.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "bench" / "results"
REPORT: Final = ROOT / "bench" / "RESULTS.md"
_PACKAGES: Final = ("web3", "eth-account", "coincurve", "numpy", "onnxruntime")


def write(name: str, result: dict[str, Any]) -> None:
    """Keep the result of one bench and renew the report."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result | {"measured": _circumstances()}, indent=2) + "\n")
    REPORT.write_text(render())


def render() -> str:
    """Return the report of all benches as Markdown."""
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    intro = "# Results\n\nWritten by `python -m bench.report` from `bench/results/`; `make bench-…` measures anew.\n"
    return intro + "".join(_section(result) for result in results)


def cell(value: str | float | None) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else value


def _section(result: dict[str, Any]) -> str:
    measured = result["measured"]
    versions = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    circumstances = f"{measured['date']}; {measured['machine']}; {versions}."
    lines = [f"\n## {result['title']}\n", *(f"{sentence}\n" for sentence in result["about"]), f"{circumstances}\n"]
    return "\n".join([*lines, *(_table(table) for table in result["tables"])])


def _table(table: dict[str, Any]) -> str:
    rule = [
        "---" if any(isinstance(value, str) for value in column) else "---:"
        for column in zip(*table["rows"], strict=True)
    ]
    rows = [table["columns"], rule, *([cell(value) for value in row] for row in table["rows"])]
    return f"### {table['title']}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _circumstances() -> dict[str, Any]:
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "versions": {
            "python": platform.python_version(),
            "anvil": _tool("anvil"),
            "solc": _tool(str(ROOT / "tools" / "solc")),
            **{name: version(name) for name in _PACKAGES},
        },
    }


def _tool(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
    return said.partition("Version: ")[2].split()[0]


if __name__ == "__main__":
    REPORT.write_text(render())
