"""What the fuzzer started from and what it found, run through each harness without the fuzzer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))  # the harnesses are a folder of the tests, not of a package

from targets import CORPUS, MODULES, TARGETS

INPUTS = [(name, path) for name, target in TARGETS.items() for path in target.corpus()]


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=[f"{name}-{path.name}" for name, path in INPUTS])
def test_harness__kept_input__finds_no_fault(name, path):
    TARGETS[name].run(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_harness__nothing_at_all__finds_no_fault(name):
    TARGETS[name].run(b"")


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_harness__seeds_altered__finds_no_fault(name, data):
    target = TARGETS[name]
    seed = bytearray(data.draw(st.sampled_from(list(target.seeds()))))
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(seed)))
        end = data.draw(st.integers(begin, min(begin + 40, len(seed))))
        seed[begin:end] = data.draw(st.binary(max_size=40))
    target.run(bytes(seed[: target.longest]))


@pytest.mark.parametrize("name", TARGETS)
def test_harness__its_seeds__finds_no_fault(name):
    for seed in TARGETS[name].seeds():
        TARGETS[name].run(seed)


def test_corpus__as_a_whole__is_small_and_belongs_to_targets():
    folders = {path.name for path in CORPUS.iterdir()}
    assert folders == TARGETS.keys()
    assert {target.run.__module__ for target in TARGETS.values()} == {module.__name__ for module in MODULES}
    assert all(target.corpus() for target in TARGETS.values())
    assert sum(path.stat().st_size for _, path in INPUTS) < 1_000_000
