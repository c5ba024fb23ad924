# ruff: noqa: INP001 -- a script, no part of a package
"""The table in docs/invariants.md names for every invariant the tests and proofs that hold it.

Usage: verify_invariants.py [--write]. Without the flag it fails when the table is not what the names of the tests say,
or when nothing holds an invariant. A test names its invariants by number, as in `invariant_07_…`, `testFuzz_10_…`.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

TABLE = Path("docs/invariants.md")
TESTS = Path("tests/forge")
NAME = re.compile(r"function ((test|testFuzz|invariant|check)((?:_\d\d)+)_\w+)\(")
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.*?) \|$", re.MULTILINE)


def main(*, write: bool) -> int:
    old = TABLE.read_text()
    held = _held()
    new = ROW.sub(lambda row: f"| {row[1]} | {row[2]} | {_cell(held.get(int(row[1]), []))} |", old)
    listed = {int(row[1]) for row in ROW.finditer(old)}
    for number in sorted(listed - held.keys()):
        sys.stdout.write(f"invariants: nothing holds number {number}\n")
    for number in sorted(held.keys() - listed):
        sys.stdout.write(f"invariants: number {number} is tested and stands not in {TABLE}\n")
    if write:
        TABLE.write_text(new)
    elif new != old:
        sys.stdout.write(f"invariants: {TABLE} is out of date; renew it with tools/verify_invariants.py --write\n")
    tests = sum(len(tests) for tests in held.values())
    sys.stdout.write(f"invariants: {len(listed & held.keys())} of {len(listed)} held, by {tests} tests and proofs\n")
    return int(listed != held.keys() or (new != old and not write))


def _held() -> dict[int, list[tuple[str, str, str]]]:
    held: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
    for file in sorted(TESTS.rglob("*.sol")):
        for name, kind, numbers in NAME.findall(file.read_text()):
            for number in numbers.strip("_").split("_"):
                held[int(number)].append((kind, name, file.name))
    return held


def _cell(tests: list[tuple[str, str, str]]) -> str:
    """Proofs and invariants by name, the more numerous tests by file."""
    named = [f"`{name}`" for kind, name, _ in tests if kind in {"check", "invariant"}]
    files: dict[str, int] = defaultdict(int)
    for kind, _, file in tests:
        files[file] += kind in {"test", "testFuzz"}
    return ", ".join([*named, *(f"{file} ({count})" for file, count in files.items() if count)])


if __name__ == "__main__":
    sys.exit(main(write="--write" in sys.argv))
