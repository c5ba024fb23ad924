"""The sensor's build: everything that its lock does not name is refused, in a process of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quietfleet.chain.deployment import ContractRecord, Deployment, save_deployment
from quietfleet.crypto import PrivateKey, checksum_address
from quietfleet.crypto.keystore import create_keystore
from quietfleet.testbed.bare import VARIABLE, only
from quietfleet.testbed.contracts import compile_contracts

ROOT = Path(__file__).parents[3]
HEAVY = ("web3", "eth_abi", "eth_account", "eth_utils", "rlp", "numpy", "rich", "aiohttp", "prometheus_client", "onnx")
IMPORTS = """
import importlib, os, sys
from quietfleet.testbed.bare import Only
sys.meta_path.insert(0, Only(os.environ["QUIETFLEET_BARE"].split(",")))
for name in sys.argv[1].split(","):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} is there")
import quietfleet.workers.sensor, quietfleet.workers.start, quietfleet.chain.follower
print(len(sys.modules))
"""
ENODE = "{owner}=enode://{public}@127.0.0.1:1"


@pytest.fixture(scope="module")
def bare():
    return {**os.environ, **only(ROOT / "requirements" / "sensor.txt"), "QUIETFLEET_PASSPHRASE": "correct horse"}


@pytest.fixture
def settings(tmp_path):
    """What a sensor is given: its key, the deployment file, and relays of two owners; no endpoint."""
    rng = random.Random(1)
    create_keystore(tmp_path / "keystore.json", PrivateKey(rng.randbytes(32)), "correct horse", light=True)
    made = compile_contracts(ROOT / ".cache")
    service, releases = (
        ContractRecord(checksum_address(bytes([number]) * 20), made[name].abi, 0)
        for number, name in enumerate(("Service", "ModelReleases"), 1)
    )
    save_deployment(tmp_path / "deployment.json", Deployment(31337, service, releases))
    (tmp_path / "readings.csv").write_text("time,temp\n")
    relays = [
        ENODE.format(
            owner=checksum_address(bytes([number]) * 20), public=PrivateKey(rng.randbytes(32)).public.to_bytes().hex()
        )
        for number in (1, 2)
    ]
    (tmp_path / "worker.toml").write_text(
        '[worker]\nname = "porch"\n[chain]\ndeployment = "deployment.json"\nrpc = "relays"\n'
        f'relays = {json.dumps(relays)}\n[sensor]\nreplay = "readings.csv"\n'
    )
    return tmp_path / "worker.toml"


def test_only__the_sensors_lock__names_none_of_the_heavy(bare):
    assert not set(HEAVY) & set(bare[VARIABLE].split(","))


def test_import__the_sensors_build__needs_nothing_heavy(bare):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, ",".join(HEAVY)], capture_output=True, text=True, check=False, env=bare
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) > 100


def test_sensor__its_own_build_and_no_endpoint__starts_says_whom_it_believes_and_stops(bare, settings):
    command = [sys.executable, "-m", "quietfleet.testbed.bare", "sensor", "-s", str(settings)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=bare) as process:
        shown = settings.parent / "state" / "status.json"
        while not shown.exists() and process.poll() is None:
            time.sleep(0.02)  # there is no other sign of it
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    assert process.returncode == 0, said
    status = json.loads(shown.read_text())
    assert status["chain_by"]["agreeing"] == 2
    assert len(status["chain_by"]["owners"]) == 2
    assert status["stale"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pipeline", "run", "forecast"), "this build lacks"),
        (("fleet", "list"), "quietfleet[worker]"),
        (("processor",), "this build lacks"),
    ],
)
def test_command__of_another_build__says_in_one_sentence_what_to_install(bare, settings, arguments, words):
    more = ("-s", str(settings)) if arguments == ("processor",) else ()
    command = [sys.executable, "-m", "quietfleet.testbed.bare", *arguments, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=bare)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
