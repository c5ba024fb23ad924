"""What operators do on a testnet, against a chain that pretends to be one, without a question being asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from ape_session import ApeSession

from quietfleet.chain.consent import Consent
from quietfleet.chain.new_key import KeyProof
from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey
from quietfleet.testbed.anvil import Anvil, program

SEPOLIA = 11_155_111
SLOW, QUICK = "sepolia: {required_confirmations: 1}", "sepolia: {required_confirmations: 0, block_time: 1}"
PASSPHRASE = "correct horse battery staple"
IMPORT = """
import sys
from ape_accounts import import_account_from_private_key
import_account_from_private_key("rehearsal", sys.stdin.readline().strip(), sys.stdin.readline().strip())
"""
CHECK = "import ape; from scripts import _verification; _verification.prepare(ape.project)"
BAD, GOOD = "0x" + "0b" * 32, "0x" + "06" * 32


class Testnet(Anvil):
    """A chain under the rules of one of Ethereum's upgrades."""

    __test__ = False

    def __init__(self, hardfork):
        super().__init__(chain_id=SEPOLIA)
        self.hardfork = hardfork

    def start(self):
        options = ("--port", self.port, "--chain-id", SEPOLIA, "--block-time", 1, "--hardfork", self.hardfork)
        self._process = subprocess.Popen(
            [program("anvil"), *map(str, options), "--silent"], stdin=subprocess.DEVNULL, start_new_session=True
        )
        self._await_answer()
        return self

    def nonce(self, address):
        return int(self.request("eth_getTransactionCount", address, "latest"), 16)


class Operator:
    """Owner of the service and of its devices, with one keystore account and its passphrase in the environment."""

    def __init__(self, folder, testnet):
        self.folder = folder
        self.testnet = testnet
        home = folder / "home"
        home.mkdir()
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "APE_DATA_FOLDER": str(home / ".ape"),
            "APE_ACCOUNTS_rehearsal_PASSPHRASE": PASSPHRASE,
            "QUIETFLEET_PASSPHRASE": PASSPHRASE,
        }
        self.command(sys.executable, "-c", IMPORT, given=f"{PASSPHRASE}\n{testnet.keys()[0].hex()}\n")
        self.there = ("--network", f"ethereum:sepolia:{testnet.url}")
        self.session = ApeSession(folder, self.environment, folder / "ape.log")

    def run(self, script, *arguments):
        """A step that signs, with the account's name."""
        return self.session.run(*script.split(), *self.there, "--account", "rehearsal", *arguments)

    def command(self, *command, given=""):
        """A command of its own, as it is typed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, input=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def record(self, name=f"{SEPOLIA}.json"):
        return json.loads((self.folder / "deployments" / name).read_text())

    def status(self):
        return self.session.run("status", *self.there, "--json").json

    def consents(self, folder, **devices):
        """Have devices sign for the service that is on record now."""
        folder.mkdir()
        service, owner = self.record()["contracts"]["Service"]["address"], self.record()["deployer"]
        for name, (key, kind) in devices.items():
            given = {"owner": owner, "kind": kind, "deadline": int(time.time()) + 3600}
            (folder / f"{name}.json").write_bytes(Consent.sign(key, SEPOLIA, service, **given).to_json())
        return folder


@pytest.fixture(scope="module")
def checkout(project, tmp_path_factory):
    """A copy whose build is what its sources say, whatever state the developer's is in."""
    folder = tmp_path_factory.mktemp("checkout") / "project"
    shutil.copytree(project, folder, symlinks=True)
    config = folder / "ape-config.yaml"
    assert SLOW in config.read_text()
    config.write_text(config.read_text().replace(SLOW, QUICK))  # a confirmation is a wait, no test
    if subprocess.run([sys.executable, "-c", CHECK], cwd=folder, capture_output=True, check=False).returncode:
        subprocess.run([program("ape"), "compile", "--force"], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(params=["prague", "osaka"])
def operator(request, checkout, tmp_path):
    folder = tmp_path / "checkout"
    shutil.copytree(checkout, folder, symlinks=True)
    with Testnet(request.param) as testnet:
        operator = Operator(folder, testnet)
        try:
            yield operator
        finally:
            operator.session.stop()


def test_operators__from_deployment_to_migration__no_question_and_all_on_record(operator, tmp_path):
    key = PrivateKey.generate()
    _deploy(operator)
    porch = _enrol(operator, tmp_path, key)
    _rotate_and_toggle(operator, tmp_path, porch)
    _release(operator, tmp_path)
    _migrate(operator, tmp_path, key)


def _deploy(operator):
    foreseen = operator.run("deploy", "--dry-run", "--json").json
    assert not (operator.folder / "deployments" / f"{SEPOLIA}.json").exists()
    done = operator.run("deploy", "--json").json
    record = operator.record()
    assert [call["contract"] for call in foreseen["calls"]] == [call["contract"] for call in done["calls"]]
    assert operator.testnet.nonce(record["deployer"]) == 3
    for contract in record["contracts"].values():
        receipt = operator.testnet.request("eth_getTransactionReceipt", contract["tx"])
        assert int(receipt["blockNumber"], 16) == contract["block"]
        assert int(receipt["contractAddress"], 16) == int(contract["address"], 16)
    verification = {path.name for path in (operator.folder / "deployments" / f"{SEPOLIA}.verify").iterdir()}
    assert verification == {f"{name}{end}" for name in record["contracts"] for end in (".json", ".input.json")}

    again = operator.run("deploy")
    assert (again.code, "--new" in again.error) == (1, True)
    assert operator.record() == record


def _enrol(operator, tmp_path, key):
    """Two devices that signed in this process, and one by its own command line."""
    keystore, deployment = tmp_path / "porch.json", operator.folder / "deployments" / f"{SEPOLIA}.json"
    porch = operator.command(program("quietfleet"), "keygen", str(keystore), "--light").strip()
    owner = ("--owner", operator.record()["deployer"], "--kind", "sensor", "--deployment", str(deployment))
    folder = operator.consents(
        tmp_path / "consents", oracle=(PrivateKey.generate(), Kind.ORACLE), gateway=(key, Kind.GATEWAY)
    )
    consent = operator.command(program("quietfleet"), "consent", str(keystore), *owner)
    (tmp_path / "consent.json").write_text(consent)
    enrolled = operator.run("enrol", "--consent", tmp_path / "consent.json", "--name", "porch", "--json").json
    assert [(row["id"], row["name"], row["active"]) for row in enrolled["result"]] == [(porch, "porch", True)]
    assert [call["function"] for call in operator.run("enrol", "--consent", folder, "--json").json["calls"]] == [
        "enrolBatch"
    ]
    assert operator.status()["service"]["revenue"] == 3 * operator.record()["parameters"]["fee"]
    return porch


def _rotate_and_toggle(operator, tmp_path, porch):
    workers = {worker["kind"]: worker["id"] for worker in operator.status()["workers"]}
    epoch = {
        "version": 1,
        "oracle": workers["oracle"],
        "gateway": workers["gateway"],
        "epoch_key_commitment": GOOD,
        "oracle_card_digest": GOOD,
        "gateway_card_digest": GOOD,
    }
    (tmp_path / "epoch.json").write_text(json.dumps(epoch))
    operator.run("rotate", "--epoch", tmp_path / "epoch.json", "--grace", "0", "--json").json  # noqa: B018 - it asserts
    raised = operator.run("rotate", "--keep-keys", "--at-once", "--min-pow", "0.5", "--json").json["result"]
    assert (raised["version"], raised["minPow"], raised["oracle"]) == (2, 500_000_000, workers["oracle"])

    tagged = operator.run("device tag", "porch", "garden", "north", "--json").json
    assert (tagged["calls"], [row["tags"] for row in tagged["result"]]) == ([], [["garden", "north"]])
    foreseen = operator.run("toggle", "--off", "--tag", "garden", "--dry-run", "--json").json
    assert [call["arguments"] for call in foreseen["calls"]] == [{"id": porch, "active": False}]
    off = operator.run("toggle", "--off", "--tag", "garden", "--json").json
    assert [(row["active"], row["name"]) for row in off["result"]] == [(False, "porch")]
    assert operator.run("device untag", "porch", "north", "--json").json["result"][0]["tags"] == ["garden"]
    nobody = operator.run("toggle", "--off", "nobody")
    assert (nobody.code, nobody.error.count("\n")) == (1, 1)

    record, new = operator.record(), PrivateKey.generate()
    terms = {"worker": porch, "owner": record["deployer"], "epoch": 1, "deadline": int(time.time()) + 3600}
    proof = KeyProof.sign(new, SEPOLIA, record["contracts"]["Service"]["address"], **terms)
    (tmp_path / "proof.json").write_bytes(proof.to_json())
    replaced = operator.run("device rotate-key", "--proof", tmp_path / "proof.json", "--json").json
    assert [row["epoch"] for row in replaced["result"]] == [1]


def _release(operator, tmp_path):
    workers = {worker["kind"]: worker["id"] for worker in operator.status()["workers"]}
    terms = {"manifest_hash": GOOD, "group_root": GOOD, "gate_hash": GOOD, "soak": 0, "wave_count": 1}
    (tmp_path / "terms.json").write_text(json.dumps(terms | {"not_before": 0, "expires_at": int(time.time()) + 3600}))
    (tmp_path / "report.json").write_text(json.dumps({"succeeded": 1, "failed": 0, "silent": 0}))
    early = operator.run("release open", "weather")
    assert (early.code, "publisher" in early.error) == (1, True)
    for step in (
        ("publisher", operator.record()["deployer"], workers["gateway"]),
        ("propose", "weather", "--terms", tmp_path / "terms.json"),
        ("approve", "weather", "1", GOOD),
        ("open", "weather"),
        ("finalise", "weather", GOOD, "--report", tmp_path / "report.json"),
        ("revoke", "weather", BAD),
    ):
        done = operator.run(f"release {step[0]}", *step[1:], "--json")
        assert done.code == 0, done.error
    (head,) = operator.status()["releases"]["channels"].values()
    assert (head["state"], head["sequence"], head["completed"]) == ("completed", 1, 1)


def _migrate(operator, tmp_path, key):
    old = operator.record()
    done = operator.run("migrate", "--json").json
    new = operator.record()
    assert operator.record(f"{SEPOLIA}.1.json") == old
    assert [call["function"] for call in done["calls"]] == [
        "setPaused",
        "Service",
        "ModelReleases",
        "AuditAnchor",
        "revoke",
        "setPublisher",
        "nameSuccessor",
    ]
    there = operator.session.run(
        "status", *operator.there, "--json", "--record", operator.folder / "deployments" / f"{SEPOLIA}.1.json"
    ).json
    assert there["service"]["successor"] == new["contracts"]["Service"]["address"]
    assert there["service"]["enrolments_paused"]

    refused = operator.run("enrol", "--consent", tmp_path / "consents")  # given to the old contract
    assert (refused.code, "sign again" in refused.error) == (1, True)
    folder = operator.consents(tmp_path / "new consents", gateway=(key, Kind.GATEWAY))
    assert operator.run("enrol", "--consent", folder).code == 0
    assert [worker["id"] for worker in operator.status()["workers"]] == [key.public.id]
    record = operator.folder / "deployments" / f"{SEPOLIA}.1.json"
    assert operator.run("withdraw", "--record", record, "--json").json["result"]["revenue"] == 0
