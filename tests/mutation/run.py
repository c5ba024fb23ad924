"""Mutation testing of the contracts: how many of the changes one could make to them do the Foundry suites notice?

`python tests/mutation/run.py` builds every mutant at once (schemata.py), runs the suites once for each, and compares
those that lived with `survivors.json`, where each has the reason why nobody can tell it from the original. Exit code 0
when at least `--least` percent died and every survivor is listed there; 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from schemata import SWITCH, SWITCH_SOURCE, Mutant, Source

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.json")
REMAPPING = "@openzeppelin/contracts=node_modules/@openzeppelin/contracts"
LEAST = 95.0
PROFILE = {
    "FOUNDRY_OPTIMIZER": "false",
    "FOUNDRY_VIA_IR": "false",
    "FOUNDRY_CODE_SIZE_LIMIT": "1000000",
    "FOUNDRY_FUZZ_RUNS": "24",
    "FOUNDRY_FUZZ_SEED": "0x1",  # the same verdict in every run
    "FOUNDRY_INVARIANT_RUNS": "6",
    "FOUNDRY_INVARIANT_DEPTH": "40",
    "FOUNDRY_GAS_LIMIT": "18446744073709551615",
}
TOO_LONG = 120  # seconds: a mutant that makes the suites run on and on is noticed too


def sources() -> list[Source]:
    """Read every contract but the interfaces, with its syntax tree."""
    names = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "contracts").rglob("*.sol") if "interfaces" not in p.parts)
    job = {
        "language": "Solidity",
        "sources": {name: {"content": (ROOT / name).read_text()} for name in names},
        "settings": {
            "remappings": [REMAPPING],
            "evmVersion": "cancun",
            "viaIR": True,
            "optimizer": {"enabled": True},
            "outputSelection": {"*": {"": ["ast"]}},
        },
    }
    done = subprocess.run(
        [str(ROOT / "tools/solc"), "--base-path", ".", "--include-path", "node_modules", "--standard-json"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    trees = json.loads(done.stdout)["sources"]
    return [Source(ROOT / name, name.removeprefix("contracts/"), trees[name]["ast"]) for name in names]


def lay_out(place: Path) -> None:
    """Copy what the suites need; pure functions may not ask for the switch, so that there are none."""
    shutil.copytree(ROOT / "contracts", place / "contracts")
    shutil.copytree(ROOT / "tests/forge", place / "tests/forge", ignore=shutil.ignore_patterns("symbolic"))
    shutil.copytree(ROOT / "tools", place / "tools")
    shutil.copy(ROOT / "foundry.toml", place)
    (place / "node_modules").symlink_to(ROOT / "node_modules")
    _quicken(place / "tools/solc")
    (place / "contracts" / SWITCH).write_text(SWITCH_SOURCE)
    for path in [*(place / "tests/forge").rglob("*.sol"), *(place / "contracts/interfaces").rglob("*.sol")]:
        path.write_text(re.sub(r"\bpure\b", "view", path.read_text()))


def _quicken(compiler: Path) -> None:
    """Answer forge's question for the version, which it asks before every run, without starting the compiler."""
    version = subprocess.run(
        [str(ROOT / "tools/solc"), "--version"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    answer = f"printf '%s' {shlex.quote(version)}"
    compiler.write_text(f'#!/bin/sh\n[ "$1" = --version ] && {{ {answer}; exit; }}\nexec {ROOT}/tools/solc "$@"\n')


def build(place: Path, files: Iterable[Source]) -> list[Mutant]:
    """Compile all mutants at once; those that are no valid Solidity are left out, and it begins anew."""
    dropped: set[str] = set()
    while True:
        mutants: list[Mutant] = []
        for source in files:
            mutants += source.number(len(mutants) + 1, dropped)
            (place / "contracts" / source.name).write_text(source.instrumented())
        done = forge(place, 0, "build", "--color", "never")
        if done.returncode == 0:
            return mutants
        invalid = set(_invalid(done.stdout + done.stderr, place))
        by_number = {mutant.number: mutant for mutant in mutants}
        found = {s.place(by_number[n]) for n in invalid for s in files if s.name == by_number[n].file}
        if not found:
            raise SystemExit(f"the mutants do not compile:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        dropped |= found


def _invalid(output: str, place: Path) -> Iterable[int]:
    """Which mutants the compiler complains of: a choice it cannot type, or the last one begun before the place."""
    for name, line, column in re.findall(r"--> (contracts/[\w/]+\.sol):(\d+):(\d+)", output):
        lines = (place / name).read_text().splitlines(keepends=True)
        at = sum(len(one) for one in lines[: int(line) - 1]) + int(column) - 1
        text = "".join(lines)
        if choice := re.match(r"\(?_mutant\((\d+)\)", text[at:]):
            yield int(choice[1])
        elif begun := re.findall(r"_mutant\((\d+)\)", text[:at]):
            yield int(begun[-1])


def forge(place: Path, mutant: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run forge with one mutant switched on; 0 is none."""
    env = {**os.environ, **PROFILE, "FOUNDRY_BLOCK_COINBASE": f"0x{mutant:040x}"}
    try:
        return subprocess.run(
            ["forge", *arguments], cwd=place, env=env, capture_output=True, text=True, timeout=TOO_LONG, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(arguments, 124, "", "")


def survives(place: Path, mutant: Mutant) -> bool:
    return forge(place, mutant.number, "test", "--fail-fast", "--color", "never").returncode == 0


def judge(place: Path, mutants: list[Mutant], workers: int) -> list[Mutant]:
    """Return the mutants nobody noticed."""
    places: Queue[Path] = Queue()
    for index in range(workers):
        copy = place.with_name(f"{place.name}-{index}")
        shutil.copytree(place, copy, symlinks=True)
        places.put(copy)

    def alive(mutant: Mutant) -> bool:
        copy = places.get()
        try:
            return survives(copy, mutant)
        finally:
            places.put(copy)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, ThreadPoolExecutor(workers) as pool:
        task = progress.add_task("mutants", total=len(mutants))
        lived = []
        for mutant, survived in zip(mutants, pool.map(alive, mutants), strict=True):
            progress.advance(task)
            if survived:
                lived.append(mutant)
                progress.console.print(f"lives: {mutant.file}:{mutant.line} {mutant.key.split(' ', 1)[1]}")
    return lived


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--least", type=float, default=LEAST, help="percent of the mutants that must die")
    parser.add_argument("--only", default="", help="only mutants whose name holds this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="name the mutants and stop")
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        place = Path(folder) / "all"
        place.mkdir()
        lay_out(place)
        mutants = build(place, sources())
        chosen = [mutant for mutant in mutants if given.only in mutant.key]
        if given.list:
            print(*(f"{m.number} {m.file}:{m.line} {m.key}" for m in chosen), sep="\n")
            return 0
        if (whole := forge(place, 0, "test", "--color", "never")).returncode != 0:
            raise SystemExit(f"the suites fail without any mutant:\n{whole.stdout[-3000:]}")
        lived = judge(place, chosen, given.jobs)
    return report(chosen, lived, given.least, given.json, time.monotonic() - begun)


def report(mutants: list[Mutant], lived: list[Mutant], least: float, path: Path | None, seconds: float) -> int:
    """Say what came of it, and hold the survivors against the list of those known to be equivalent."""
    known: dict[str, str] = json.loads(SURVIVORS.read_text())
    score = 100 * (1 - len(lived) / len(mutants))
    unknown = [mutant for mutant in lived if mutant.key not in known]
    print(f"{len(mutants)} mutants, {len(mutants) - len(lived)} died: {score:.1f} % in {seconds:.0f} s")
    for mutant in lived:
        print(f"  lives: {mutant.file}:{mutant.line} {mutant.key.split(' ', 1)[1]}")
        print(f"    {known.get(mutant.key, 'NOT IN survivors.json: test it, or say there why it is equivalent')}")
    if path is not None:
        figures = {"mutants": len(mutants), "died": len(mutants) - len(lived), "score": round(score, 1)}
        path.write_text(json.dumps({**figures, "seconds": round(seconds)}, indent=2) + "\n")
    return int(score < least or bool(unknown))


if __name__ == "__main__":
    sys.exit(main())
