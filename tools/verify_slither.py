# ruff: noqa: INP001 -- a script, no part of a package
"""Every finding of slither about our contracts is justified, and every justification is needed.

Usage: verify_slither.py REPORT.json LOG TRIAGE.json. It fails on a finding nobody justified, on a justification without
a finding, and when slither analysed no contract at all, which looks like success.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OURS = "contracts/"


def main(report: Path, log: Path, triage: Path) -> int:
    analysed = re.search(r"analyzed \((\d+) contracts", log.read_text())
    contracts = int(analysed.group(1)) if analysed else 0
    found = set(_findings(json.loads(report.read_text())))
    justified = {(check, place) for check, entry in json.loads(triage.read_text()).items() for place in entry["where"]}
    for check, place in sorted(found - justified):
        _say(f"slither: {check} in {place}: fix it, or give a reason in {triage}")
    for check, place in sorted(justified - found):
        _say(f"slither: {check} in {place}: found no more, take it out of {triage}")
    _say(f"slither: {contracts} contracts analysed, {len(found)} findings, {len(found & justified)} of them justified")
    return int(contracts == 0 or found != justified)


def _findings(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for finding in report["results"].get("detectors", []):
        files = {element["source_mapping"]["filename_relative"] for element in finding["elements"]}
        if any(file.startswith(OURS) for file in files):
            yield finding["check"], _place(finding["elements"][0])


def _place(element: dict[str, Any]) -> str:
    """Name what a finding is about without its line, which moves."""
    fields = element.get("type_specific_fields", {})
    name = str(fields.get("signature", element["name"]))
    parent = fields.get("parent")
    return f"{_place(parent)}.{name}" if parent and parent["type"] != "file" else name


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
