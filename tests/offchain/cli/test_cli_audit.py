"""A worker's trail anchored on a real chain, checked by its keeper and by somebody who has nothing but a proof."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import pytest

from quietfleet.chain.deployment import save_deployment
from quietfleet.clock import ManualClock
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.errors import AuditBroken
from quietfleet.settings import load_settings
from quietfleet.storage import Database
from quietfleet.workers._anchoring import Anchoring
from quietfleet.workers._runtime import Runtime

DAY = 86_400.0


@pytest.fixture
def place(tmp_path, node, contracts, monkeypatch):
    """A worker's folder."""
    save_deployment(tmp_path / "deployment.json", contracts)
    chain = f'[chain]\ndeployment = "deployment.json"\nrpc = "{node.url}"\n'
    (tmp_path / "worker.toml").write_text(f'[worker]\nname = "gateway"\n{chain}')
    monkeypatch.delenv("QUIETFLEET_CHAIN_RPC", raising=False)
    return tmp_path


class Keeper:
    """A worker that notes things and anchors them, in this process."""

    def __init__(self, folder, node, clock):
        self.clock = clock
        identity = PrivateKey.from_bytes(keccak256(str(folder).encode()))
        self.runtime = Runtime(load_settings(folder / "worker.toml", {}), identity, clock, "")
        self.anchoring = Anchoring(self.runtime, PrivateKey.from_bytes(node.keys()[0]))

    def note(self, count):
        for number in range(count):
            self.runtime.note("noted", number=number)

    def anchor(self):
        assert self.anchoring.due
        asyncio.run(self.anchoring.step())

    def stop(self):
        self.runtime.database.close()


@pytest.fixture
def start(place, node):
    clock, running = ManualClock(1_000_000.0), []

    def start():
        for one in running:
            one.stop()
        running[:] = [Keeper(place, node, clock)]
        return running[0]

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def keeper(start):
    return start()


@pytest.fixture
def anchored(keeper):
    """Four entries and their anchor."""
    keeper.note(4)
    keeper.anchor()
    return keeper


@pytest.fixture
def broken(run):
    """Runs a command that must find the trail or a proof broken: exit 4, one sentence."""

    def broken(*words):
        result = run("audit", *words)
        assert (result.exit_code, result.stdout) == (4, ""), result.output
        assert result.stderr.startswith("quietfleet: ")
        assert result.stderr.count("\n") == 1
        return result.stderr

    return broken


@pytest.fixture
def told(run):
    """Runs a command that must succeed, and returns what it says."""

    def told(*words):
        result = run("audit", *words)
        assert result.exit_code == 0, result.output
        return result.stdout

    return told


def tampered(folder, *statements):
    """Write to a trail as somebody with the file would."""
    connection = sqlite3.connect(folder / "state" / "worker.db")
    for trigger in ("audit_no_update", "audit_no_delete"):
        connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_anchor__at_intervals__is_due_again_a_day_later_and_after_a_restart(anchored, start):
    assert not anchored.anchoring.due
    again = start()
    assert not again.anchoring.due
    again.clock.advance(DAY + 1)
    assert again.anchoring.due
    again.anchor()
    assert [one["number"] for one in noted(again, "audit-anchored")] == [1, 2]


def test_anchor__killed_before_it_heard_of_the_block__takes_the_same_up(anchored, start, place, node, monkeypatch):
    anchored.stop()
    tampered(place, "UPDATE audit_anchor SET block = NULL")
    monkeypatch.setattr("quietfleet.chain.anchors.CHUNK", 2)
    node.mine(7)  # it is looked for further back than one request reaches
    again = start()
    again.note(2)
    again.anchor()
    assert [one["number"] for one in noted(again, "audit-anchored")] == [1, 1]
    assert [one["entries"] for one in noted(again, "audit-anchored")] == [4, 4]
    first, second = noted(again, "audit-anchored")
    assert second["block"] == first["block"]


def test_anchor__by_a_worker_set_back__is_refused_and_said(anchored, start, place):
    anchored.stop()
    tampered(place, "DELETE FROM audit WHERE sequence > 2", "DELETE FROM audit_anchor")
    again = start()
    with pytest.raises(AuditBroken, match="set back"):
        again.anchor()


def test_verify__sound__counts_and_names_anchor_and_block(anchored, told):
    assert "5 entries, each fits" in told("verify")
    shown = json.loads(told("verify", "--chain", "--json"))
    assert shown["entries"] == 5  # the anchor was noted, too
    assert shown["anchor"]["entries"] == 4
    assert shown["chain"]["number"] == 1


def test_verify__entry_changed__says_which(anchored, place, broken):
    anchored.stop()
    tampered(place, """UPDATE audit SET detail = '{"number":9}' WHERE sequence = 3""")
    assert "entry 3" in broken("verify")


def test_verify__log_anchored_by_nobody__is_sound_but_not_on_chain(keeper, told, broken):
    keeper.note(2)
    assert "2 entries" in told("verify")
    assert "never anchored" in broken("verify", "--chain")


def test_verify__the_last_anchor_forgotten__the_chain_tells(anchored, place, told, broken):
    anchored.clock.advance(DAY + 1)
    anchored.anchor()
    anchored.stop()
    tampered(place, "DELETE FROM audit_anchor WHERE number = 2", "DELETE FROM audit WHERE sequence > 4")
    assert "4 entries" in told("verify")
    assert "newest anchor is number 2" in broken("verify", "--chain")


def test_show__of_a_kind_after_a_number__is_a_line_of_json_each(anchored, told):
    lines = [json.loads(line) for line in told("show", "--kind", "noted", "--after", "2").splitlines()]
    assert [(line["number"], line["detail"]) for line in lines] == [(3, {"number": 2}), (4, {"number": 3})]


def test_check__a_proof_with_the_chain__holds_also_after_later_anchors(anchored, told, place, node):
    (place / "proof.json").write_text(told("prove", "3"))
    anchored.note(7)
    anchored.clock.advance(DAY + 1)
    anchored.anchor()
    shown = json.loads(told("check", "proof.json", "--deployment", "deployment.json", "--rpc", node.url, "--json"))
    assert (shown["number"], shown["kind"], shown["detail"]) == (3, "noted", {"number": 2})
    assert shown["chain"]["number"] == 1
    alone = told("check", "proof.json")
    assert "holds if in block" in alone


def test_check__a_proof_of_an_anchor_never_made__is_refused_by_the_chain(anchored, told, broken, place, node):
    proof = json.loads(told("prove", "3"))
    (place / "proof.json").write_text(json.dumps(proof | {"number": 2}))
    told("check", "proof.json")  # alone it cannot be told
    assert "no such anchor" in broken("check", "proof.json", "--deployment", "deployment.json", "--rpc", node.url)


def test_check__a_proof_with_a_changed_entry__is_refused(anchored, told, broken, place):
    proof = json.loads(told("prove", "3"))
    (place / "proof.json").write_text(json.dumps(proof | {"detail": {"number": 7}}))
    assert "not in the tree" in broken("check", "proof.json")


def test_anchor__chain__shows_neither_length_nor_root(anchored, node, contracts):
    with Database.observe(anchored.runtime.database.path) as database:
        (root,) = database.execute("SELECT root FROM audit_anchor").fetchone()
    block = noted(anchored, "audit-anchored")[0]["block"]
    (log,) = node.request(
        "eth_getLogs", {"fromBlock": hex(block), "toBlock": hex(block), "address": contracts.audit.address}
    )
    assert root.hex() not in log["data"]
    assert anchored.runtime.id[2:].lower() not in "".join(log["topics"])


def noted(keeper, kind):
    return [entry.detail for entry in keeper.runtime.audit.entries(kind=kind)]
