"""What the documents point at must be there: a claim whose test is gone is no claim."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quietfleet.monitor.alarms import Alarm, sentence
from quietfleet.monitor.rules import CAUSES, load_rules

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
PLACES = ("contracts", "offchain", "scripts", "tests", "bench", "tools")
SOURCES = {".py", ".sol"}
PAGES = ("attacks.md", "paper.md")

NAMED = re.compile(r"`((?:test|testFuzz|check|invariant)_\w+)`")
DEFINED = re.compile(r"\b(?:def|function) ((?:test|testFuzz|check|invariant)_\w+)")
FILE = re.compile(r"(?<![\w/.])([\w/]+(?:\.\w+)*\.(?:py|sol))\b")
STRUCT_OR_FUNCTION = re.compile(r"(?:struct \w+ \{.*?\n    \}|function .*?;)", re.DOTALL)
FREE = re.compile(r"\b(?:bytes32|bytes|string)(?:\[\])?(?: calldata| memory)? (\w+)")


@pytest.fixture(scope="module")
def files():
    """Every source file's path, as the documents may shorten it from the left."""
    below = (path for place in PLACES for path in (ROOT / place).rglob("*"))
    return [f"/{path.relative_to(ROOT)}" for path in (*ROOT.glob("*"), *below) if path.suffix in SOURCES]


@pytest.fixture(scope="module")
def defined():
    """The name of every test, proof and invariant."""
    sources = (path for path in TESTS.rglob("*") if path.suffix in SOURCES)
    return {name for path in sources for name in DEFINED.findall(path.read_text())}


def missing_names(text, defined):
    return sorted(set(NAMED.findall(text)) - defined)


def missing_files(text, files):
    return sorted({name for name in FILE.findall(text) if not any(path.endswith(f"/{name}") for path in files)})


@pytest.mark.parametrize("page", PAGES)
def test_page__names_tests_proofs_and_invariants__that_exist(page, defined):
    text = (ROOT / "docs" / page).read_text()
    assert NAMED.search(text)
    assert missing_names(text, defined) == []


@pytest.mark.parametrize("page", [*PAGES, "protocol.md"])
def test_page__names_files__that_exist(page, files):
    text = (ROOT / "docs" / page).read_text()
    assert FILE.search(text)
    assert missing_files(text, files) == []


def test_missing_names__one_that_nobody_wrote__is_found(defined):
    text = "`test_missing_names__one_that_nobody_wrote__is_found`, `check_99_NobodyProvedThis`"
    assert missing_names(text, defined) == ["check_99_NobodyProvedThis"]


def test_missing_files__one_that_nobody_wrote__is_found(files):
    assert missing_files("offchain/test_docs.py, contracts/Nobody.sol", files) == ["contracts/Nobody.sol"]


@pytest.mark.parametrize("cause", sorted(CAUSES))
def test_alarm__of_each_cause__is_explained_to_operators_in_the_manual_and_in_a_sentence(cause):
    section = (ROOT / "docs" / "operations.md").read_text().partition("\n## Alarms")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith(f"| `{cause}` |")]
    (cells,) = rows
    assert len(cells) == 4
    assert all(cell.strip() for cell in cells), "what it means, what is done, what one can do"
    alarm = Alarm(1, "s1", cause, "temp", 0.0, 9.0, 9.0, 5, sure=0.9, actions=load_rules().actions(cause, "temp"))
    said = sentence(alarm)
    assert f"{cause} in " not in said, "it has words of its own"
    assert "% sure" in said
    assert "you can" in said


def test_fields__of_32_free_bytes_and_more__are_each_listed_with_a_reason():
    page = (ROOT / "docs" / "attacks.md").read_text()
    rows = page.partition("### What no parameter can carry")[2].partition("\n## ")[0].splitlines()
    listed = {name for row in rows if row.startswith("| `") for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    interfaces = "".join(path.read_text() for path in sorted((ROOT / "contracts/interfaces").glob("*.sol")))
    free = {name for part in STRUCT_OR_FUNCTION.findall(interfaces) for name in FREE.findall(part)}
    assert free
    assert free - listed == set()
