# ruff: noqa: INP001 -- a script, no part of a package
"""Every line and branch of the contracts is run by the suite whose lcov report this reads.

Usage: verify_coverage.py LCOV. It fails below 100 % and names what is missing. Forge counts contracts alone, so the
functions at file level (the packed words and the wave tree) are not in the report; tests/forge/fuzz/Words.t.sol and
Releases.t.sol run all of them.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

OURS = "contracts/"
AT_LEAST = 300  # lines; fewer mean that the report lost the contracts


def main(report: Path) -> int:
    lines, missed_lines, branches, missed_branches = [], [], [], []
    for kind, place, hits in _records(report):
        (lines if kind == "line" else branches).append(place)
        if hits == 0:
            (missed_lines if kind == "line" else missed_branches).append(place)
    for place in missed_lines:
        _say(f"coverage: no test runs {place}")
    for place in missed_branches:
        _say(f"coverage: no test takes a branch at {place}")
    _say(
        f"coverage: lines {len(lines) - len(missed_lines)}/{len(lines)}, "
        f"branches {len(branches) - len(missed_branches)}/{len(branches)}"
    )
    return int(bool(missed_lines or missed_branches) or len(lines) < AT_LEAST)


def _records(report: Path) -> Iterator[tuple[str, str, int]]:
    source = ""
    for record in report.read_text().splitlines():
        key, _, value = record.partition(":")
        fields = value.split(",")
        if key == "SF":
            source = value
        elif not source.startswith(OURS):
            continue
        elif key == "DA":
            yield "line", f"{source}:{fields[0]}", int(fields[1])
        elif key == "BRDA":
            yield "branch", f"{source}:{fields[0]}", 0 if fields[3] == "-" else int(fields[3])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
