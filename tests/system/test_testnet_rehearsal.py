"""What an operator does on a testnet, against a chain that pretends to be one, without a question being asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from quietfleet.testbed.anvil import Anvil, program

SEPOLIA = 11_155_111
IMPORT = """
import sys
from ape_accounts import import_account_from_private_key
import_account_from_private_key("rehearsal", sys.stdin.readline().strip(), sys.stdin.readline().strip())
"""


@pytest.fixture(scope="module")
def testnet():
    with Anvil(chain_id=SEPOLIA, block_time=1) as anvil:
        yield anvil


@pytest.fixture(scope="module")
def operator(project, testnet, tmp_path_factory):
    """Somebody with a keystore account, its passphrase in the environment, and nobody at the keyboard."""
    home = tmp_path_factory.mktemp("home")
    passphrase = "correct horse battery staple"
    environment = {
        **os.environ,
        "HOME": str(home),
        "APE_DATA_FOLDER": str(home / ".ape"),
        "APE_ACCOUNTS_rehearsal_PASSPHRASE": passphrase,
        "QUIETFLEET_PASSPHRASE": passphrase,
    }
    secret = f"{passphrase}\n{testnet.keys()[0].hex()}\n"
    subprocess.run([sys.executable, "-c", IMPORT], input=secret, text=True, env=environment, cwd=project, check=True)

    def run(*command):
        return subprocess.run(
            [program(command[0]), *command[1:]],
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_deploy_enrol_status__keystore_account__no_question_and_all_on_record(project, testnet, operator, tmp_path):
    there = ("--network", f"ethereum:sepolia:{testnet.url}", "--account", "rehearsal")
    deployed = operator("ape", "run", "deploy", *there)
    assert deployed.returncode == 0, deployed.stderr
    record = json.loads((project / "deployments" / f"{SEPOLIA}.json").read_text())
    for contract in record["contracts"].values():
        receipt = testnet.request("eth_getTransactionReceipt", contract["tx"])
        assert int(receipt["blockNumber"], 16) == contract["block"]
        assert int(receipt["contractAddress"], 16) == int(contract["address"], 16)

    again = operator("ape", "run", "deploy", *there)
    assert again.returncode != 0
    assert "Traceback" not in again.stderr + again.stdout

    keystore, deployment = tmp_path / "porch.json", project / "deployments" / f"{SEPOLIA}.json"
    worker = operator("quietfleet", "keygen", str(keystore), "--light").stdout.strip()
    owner = ("--owner", record["deployer"], "--kind", "sensor", "--deployment", str(deployment))
    consent = tmp_path / "consent.json"
    consent.write_text(operator("quietfleet", "consent", str(keystore), *owner).stdout)
    enrolled = operator("ape", "run", "enrol", "--consent", str(consent), *there)
    assert enrolled.returncode == 0, enrolled.stderr

    shown = operator("ape", "run", "status", "--json", "--network", there[1])
    assert shown.returncode == 0, shown.stderr
    assert worker in shown.stdout
