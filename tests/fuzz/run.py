"""Fuzzes each decoder for a while: `python tests/fuzz/run.py [--seconds N] [target…]`.

What is found on the way lies in `.build/fuzz/<target>`, and an input that breaks something in `.build/fuzz/findings`;
once mended it belongs into `tests/fuzz/corpus/<target>`, which the tests replay.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from harness import Target

ROOT: Final = Path(__file__).parents[2]
WORK: Final = ROOT / ".build/fuzz"
FINDINGS: Final = WORK / "findings"
MEMORY: Final = 1024  # MB: an input that takes more is a finding
PATIENCE: Final = 10  # seconds: likewise
_STATUS: Final = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
_DONE: Final = re.compile(r"Done (\d+) runs in (\d+) second")
_SUMMARY: Final = re.compile(r"^(?:=== Uncaught Python exception: ===|SUMMARY: .*|==\d+== ERROR: .*)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What a target did in its time."""

    name: str
    runs: int
    seconds: int
    coverage: int
    features: int
    kept: int
    finding: str

    def __str__(self) -> str:
        rate = self.runs // max(self.seconds, 1)
        numbers = f"{self.runs:>10,}{rate:>9,}{self.coverage:>8}{self.features:>9}{self.kept:>8}"
        return f"{self.name:<22}{numbers}  {self.finding or 'nothing found'}"


def fuzz(target: Target, seconds: int) -> Outcome:
    """Run one target in a process of its own."""
    name, module = target.name, target.run.__module__
    folders = [WORK / name, FINDINGS]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-max_len={target.longest}", f"-timeout={PATIENCE}"]
    options = [*limits, f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={FINDINGS}/{name}-", "-print_final_stats=0"]
    command = [sys.executable, __file__, "--child", module, name, *options, str(WORK / name), str(target.folder)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    told = done.stderr + done.stdout
    (WORK / f"{name}.log").write_text(told)
    return _read(name, told, done.returncode)


def _read(name: str, told: str, code: int) -> Outcome:
    status = _STATUS.findall(told)
    coverage, features, kept = map(int, status[-1]) if status else (0, 0, 0)
    runs, seconds = map(int, found.groups()) if (found := _DONE.search(told)) else (0, 0)
    summary = _SUMMARY.search(told)
    finding = told[summary.start() :].strip() if summary else ""
    if code and not finding:
        finding = told.strip()[-500:] or f"the fuzzer ended with {code}"
    return Outcome(name, runs, seconds, coverage, features, kept, "\n".join(finding.splitlines()[:14]))


def child(module: str, name: str, options: list[str]) -> None:
    """Fuzz in this process; does not return."""
    import atheris  # noqa: PLC0415 -- in .venv-fuzz alone

    with atheris.instrument_imports(include=["quietfleet", "rlp", "eth_abi"]):
        import_module(module)
    from harness import TARGETS  # noqa: PLC0415

    atheris.Setup([sys.argv[0], *options], TARGETS[name].run)
    atheris.Fuzz()


def replay(targets: list[Target]) -> None:
    """Run what is kept once; the last input named is the one that broke something."""
    for each in targets:
        for path in each.corpus():
            print(path.relative_to(ROOT), flush=True)
            each.run(path.read_bytes())


def campaign(targets: list[Target], seconds: int) -> int:
    """Fuzz one target after another; return how many had a finding."""
    print(f"{'target':<22}{'runs':>10}{'a second':>9}{'edges':>8}{'features':>9}{'corpus':>8}", flush=True)
    faults = 0
    for each in targets:
        outcome = fuzz(each, seconds)
        print(outcome, flush=True)
        faults += bool(outcome.finding)
    return faults


def main() -> int:
    from targets import TARGETS  # noqa: PLC0415 -- the child must not have imported what it is to instrument

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}; all, unless some are named"
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--seed", action="store_true", help="write the seeds into the corpus")
    other.add_argument("--replay", action="store_true", help="run the corpus once")
    asked = parser.parse_args()
    if unknown := set(asked.names) - TARGETS.keys():
        parser.error(f"no target {', '.join(sorted(unknown))}")
    chosen = [TARGETS[name] for name in asked.names or TARGETS]
    if asked.seed:
        for each in chosen:
            each.keep_all(each.seeds())
    elif asked.replay:
        replay(chosen)
    else:
        return int(campaign(chosen, asked.seconds) > 0)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], sys.argv[4:])
    sys.exit(main())
