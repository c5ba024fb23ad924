"""What is meant to harm a device is refused before it is loaded, at little cost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import DENSE, HOSTILE, linear, made, model

from quietfleet.errors import ModelRejected
from quietfleet.pipeline.onnx_guard import guard

PROGRAM = Path(__file__).parents[1] / "hostile.py"
KIB = 1024
MOST_GROWTH = 64 * KIB  # KiB
COSTLY = ("zip bomb", "constant of 6 GB", "tensor that claims 2 GB", "eight megabytes", "deeply nested", "endless tree")
LATER = ("another width", "forecasts no number")  # harmless to load: what a device holds them against is its manifest

REST = [name for name in HOSTILE if name not in {*COSTLY, *LATER, *DENSE}]  # one after the other in one process


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in LATER])
def test_artefact__meant_to_harm__is_refused_before_any_runtime_sees_it(name):
    with pytest.raises(ModelRejected):
        guard(made(name))


@pytest.mark.parametrize("names", [*([name] for name in (*COSTLY, *LATER, *DENSE)), REST], ids=lambda one: one[-1])
def test_artefact__meant_to_harm__costs_little_memory(names, tmp_path):
    artefacts = [tmp_path / str(number) for number in range(len(names))]
    for name, artefact in zip(names, artefacts, strict=True):
        artefact.write_bytes(made(name))
    program = [sys.executable, PROGRAM, *artefacts]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert all(told["refused"])
    assert len(told["refused"]) == len(names)
    assert told["grew"] <= MOST_GROWTH


def test_artefact__cut_off_anywhere__is_refused():
    whole = model(linear()).SerializeToString()
    refused = 0
    for length in range(len(whole)):
        try:
            guard(whole[:length])
        except ModelRejected:
            refused += 1
    assert refused >= len(whole) - 8, "but for a graph's end, which only says which operators the file is written for"
