"""The command line as an operator has it: a folder, a passphrase, and the words they type."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner

from quietfleet.chain._journal import Located
from quietfleet.chain.deployment import ContractRecord, Deployment, save_deployment
from quietfleet.chain.replica import Batch, Replica
from quietfleet.chain.types import Head
from quietfleet.cli import main
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.crypto.keystore import create_keystore
from quietfleet.storage import Database
from quietfleet.testbed.anvil import Anvil
from quietfleet.testbed.contracts import compile_contracts, deploy

PASSPHRASE = "correct horse"


@pytest.fixture(scope="module")
def node():
    """A chain."""
    with Anvil() as anvil:
        yield anvil


@pytest.fixture(scope="module")
def contracts(node, request):
    """The contracts on it."""
    artifacts = compile_contracts(request.config.cache.mkdir("contracts"))
    return asyncio.run(deploy(node.url, node.chain_id, artifacts, node.keys()[0]))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `quietfleet …` in an empty folder; `passphrase=None` leaves both variables unset."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUIETFLEET_PASSPHRASE_FILE", raising=False)

    def run(*words, passphrase=PASSPHRASE):
        runner = CliRunner(mix_stderr=False)
        environment = {"QUIETFLEET_PASSPHRASE": passphrase, "COLUMNS": "160"}
        return runner.invoke(main, [str(word) for word in words], env=environment)

    return run


@pytest.fixture
def refused(run):
    """Runs a command that must fail as the operator should see it: exit 1, one sentence, no traceback."""

    def refused(*words, passphrase=PASSPHRASE):
        result = run(*words, passphrase=passphrase)
        assert result.exit_code == 1, result.output
        assert isinstance(result.exception, SystemExit)
        assert result.stdout == ""
        assert result.stderr.startswith("quietfleet: ")
        assert result.stderr.count("\n") == 1
        assert "Traceback" not in result.stderr
        return result.stderr

    return refused


@pytest.fixture
def device(tmp_path):
    """A device's key, in `porch.json`."""
    key = PrivateKey.from_bytes(keccak256(b"porch"))
    create_keystore(tmp_path / "porch.json", key, PASSPHRASE, light=True)
    return key


@pytest.fixture
def deployment(tmp_path):
    """The contracts of chain 31337, in `31337.json`."""
    place = Deployment(31337, ContractRecord("0x" + "11" * 20, (), 0), ContractRecord("0x" + "22" * 20, (), 0))
    save_deployment(tmp_path / "31337.json", place)
    return place


@pytest.fixture
def worker(tmp_path, device, deployment):
    """A worker's settings, in `worker.toml`."""
    chain = '[chain]\ndeployment = "31337.json"\n'
    (tmp_path / "worker.toml").write_text(f'[worker]\nname = "porch"\nkeystore = "porch.json"\n{chain}')
    return device


@pytest.fixture
def read(tmp_path):
    """Has the worker read these events from the chain, one a block, on top of what it read before."""

    def read(*events):
        with Database(tmp_path / "state" / "worker.db") as database:
            replica = Replica(database)
            first = replica.head.number + 1 if replica.head else 1
            for number, event in enumerate(events, first):
                head = Head(number, number.to_bytes(32, "big"), number)
                replica.advance(number - 1, Batch((Located(number, 0, number, event),), (head,)), 256)

    return read
