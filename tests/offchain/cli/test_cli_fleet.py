"""Owners without Ape: switched over JSON-RPC on a real chain, with key files."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest

from quietfleet.chain.consent import Consent
from quietfleet.chain.deployment import save_deployment
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import ServiceContract
from quietfleet.chain.types import Kind, Right
from quietfleet.chain.wallet import Wallet
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.crypto.keystore import create_keystore
from quietfleet.testbed.anvil import free_port

PASSPHRASE = "correct horse"
FAR = 2**40 - 1
_numbers = itertools.count(1)


@pytest.fixture
def place(contracts, tmp_path, node, monkeypatch):
    """An owner's folder: the deployment file, and where the chain is said in the environment."""
    save_deployment(tmp_path / "deployment.json", contracts)
    monkeypatch.delenv("QUIETFLEET_BOOK", raising=False)
    monkeypatch.setenv("QUIETFLEET_CHAIN_DEPLOYMENT", "deployment.json")
    monkeypatch.setenv("QUIETFLEET_CHAIN_RPC", node.url)
    return tmp_path


@pytest.fixture
def on_chain(node, contracts):
    """Does something as one of the chain's rich accounts, or only reads."""

    def act(what, account=0):
        async def acting():
            async with ChainClient(node.url, contracts) as client:
                return await what(ServiceContract(client, Wallet(node.keys()[account], client)))

        return asyncio.run(acting())

    return act


@pytest.fixture
def owner(place, node):
    """Puts account `number` into a key file of that name and returns its address."""

    def owner(number, name):
        key = PrivateKey.from_bytes(node.keys()[number])
        create_keystore(place / name, key, PASSPHRASE, light=True)
        return key.public.id

    return owner


@pytest.fixture
def enrolled(on_chain, node, contracts):
    """Enrols devices for the account with this number and returns their ids."""

    def enrol(account, count=1):
        owner = PrivateKey.from_bytes(node.keys()[account]).public.id

        async def paying(service):
            keys = [PrivateKey.from_bytes(keccak256(b"owned %d" % next(_numbers))) for _ in range(count)]
            terms = (node.chain_id, contracts.service.address)
            for key in keys:
                await service.enrol(Consent.sign(key, *terms, owner=owner, kind=Kind.SENSOR, deadline=FAR))
            return [key.public.id for key in keys]

        return on_chain(paying, account)

    return enrol


@pytest.fixture
def lent(on_chain, node):
    """Has account 1 lend an operator the right to switch off, for a day."""
    until = int(node.request("eth_getBlockByNumber", "latest", False)["timestamp"], 16) + 86_400
    operators = []

    def lend(operator):
        operators.append(operator)
        on_chain(lambda service: service.set_operator(operator, Right.SWITCH_OFF, until), account=1)

    yield lend
    for operator in operators:
        on_chain(lambda service, who=operator: service.set_operator(who, Right(0), 0), account=1)


@pytest.fixture
def active(on_chain):
    def active(*ids):
        async def ask(service):
            return [(await service.worker(id_)).active for id_ in ids]

        return on_chain(ask)

    return active


@pytest.fixture
def done(run, place):
    """Runs a command that has to succeed, and returns what it printed for programs."""

    def done(*words):
        result = run("fleet", *words, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return done


@pytest.fixture
def nonce(node):
    def nonce(address):
        return int(node.request("eth_getTransactionCount", address, "latest"), 16)

    return nonce


def test_disable__by_name_and_tag__switches_all_in_one_call_and_enable_takes_it_back(done, owner, enrolled, active):
    porch, hall, shed, other = enrolled(1, 4)
    owner(1, "owner.json")
    done("name", porch, "porch")
    done("tag", hall, "garden")
    done("tag", shed, "garden", "north")
    made = done("disable", "porch", "--tag", "garden", "-k", "owner.json")
    assert [(call["function"], call["arguments"]["ids"]) for call in made["calls"]] == [
        ("setActiveBatch", [porch, hall, shed])
    ]
    assert made["calls"][0]["transaction"].startswith("0x")
    assert [(row["name"], row["active"], row["tags"]) for row in made["result"]] == [
        ("porch", False, []),
        ("", False, ["garden"]),
        ("", False, ["garden", "north"]),
    ]
    assert active(porch, hall, shed, other) == [False, False, False, True]
    made = done("enable", "--tag", "north", "-k", "owner.json")
    assert [call["function"] for call in made["calls"]] == ["setActive"]
    assert active(porch, hall, shed) == [False, False, True]


def test_disable__devices_of_two_owners_in_a_folder_of_keys__each_signs_for_its_own(
    done, owner, enrolled, active, place
):
    (place / "keys").mkdir()
    first, second = owner(1, "keys/first.json"), owner(2, "keys/UTC--second")
    ids = enrolled(1) + enrolled(2)
    made = done("disable", *ids, "-k", "keys")
    assert [call["sender"] for call in made["calls"]] == [first, second]
    assert active(*ids) == [False, False]


def test_disable__already_off__sends_nothing_and_asks_for_no_key(done, owner, enrolled, nonce):
    (worker,) = enrolled(1)
    address = owner(1, "owner.json")
    done("disable", worker, "-k", "owner.json")
    before = nonce(address)
    assert done("disable", worker)["calls"] == []
    assert nonce(address) == before


def test_disable__dry_run__shows_call_and_gas_without_passphrase_or_key(run, done, place, enrolled, active):
    (worker,) = enrolled(1)
    made = done("disable", worker, "--dry-run")
    (call,) = made["calls"]
    assert (call["at_hand"], call["transaction"]) == (False, "")
    assert call["gas"] > 20_000
    assert active(worker) == [True]
    shown = run("fleet", "disable", worker, "--dry-run", passphrase=None)
    assert "whose account is not at hand" in shown.stdout
    assert shown.stdout.endswith("Nothing was sent.\n")


def test_disable__not_our_device__names_its_owner_and_switches_none(
    refused, done, owner, enrolled, active, node, nonce
):
    mine, theirs = enrolled(1)[0], enrolled(2)[0]
    address = owner(1, "owner.json")
    done("name", theirs, "theirs")
    before = nonce(address)
    said = refused("fleet", "disable", mine, "theirs", "-k", "owner.json")
    assert f"theirs: the owner is {PrivateKey.from_bytes(node.keys()[2]).public.id}" in said
    assert nonce(address) == before
    assert active(mine, theirs) == [True, True]


def test_disable__by_an_operator__needs_the_right_of_that_kind(refused, done, owner, enrolled, active, lent):
    (worker,) = enrolled(1)
    operator = owner(3, "operator.json")
    assert "no operator with the right" in refused("fleet", "disable", worker, "-k", "operator.json")
    lent(operator)
    done("disable", worker, "-k", "operator.json")
    assert active(worker) == [False]
    assert "no operator with the right" in refused("fleet", "enable", worker, "-k", "operator.json")


def test_disable__account_without_ether__says_how_much_may_be_needed(refused, enrolled, lent, place):
    (worker,) = enrolled(1)
    poor = PrivateKey.from_bytes(keccak256(b"poor"))
    create_keystore(place / "poor.json", poor, PASSPHRASE, light=True)
    lent(poor.public.id)
    said = refused("fleet", "disable", worker, "-k", "poor.json")
    assert "send it ether" in said
    assert f"{poor.public.id} has 0 ether" in said


def test_disable__what_the_contract_refuses__is_said_before_anything_is_sent(refused, owner, enrolled, on_chain, nonce):
    kept, retired = enrolled(1, 2)
    address = owner(1, "owner.json")
    on_chain(lambda service: service.set_active([kept], False), account=1)
    on_chain(lambda service: service.retire(retired), account=1)
    before = nonce(address)
    assert f"{retired} is retired for good" in refused("fleet", "enable", kept, retired, "-k", "owner.json")
    assert nonce(address) == before


def test_disable__no_block_takes_it__says_that_it_may_still_and_leaves_with_code_3(run, place, owner, enrolled, node):
    (worker,) = enrolled(1)
    owner(1, "owner.json")
    node.request("evm_setAutomine", False)
    try:
        result = run("fleet", "disable", worker, "-k", "owner.json", "--wait", "0.1")
    finally:
        node.request("evm_setAutomine", True)
        node.mine()
    assert result.exit_code == 3
    assert "it may take effect still" in result.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("disable", "prch"), "did you mean porch?"),
        (("disable", "0x" + "77" * 20), "No worker goes by this name or id"),
        (("disable", "--tag", "gardn"), "did you mean garden?"),
        (("disable",), "Nothing was named"),
        (("disable", "porch", "-k", "deployment.json"), "not an Ethereum key file"),
        (("tag", "porch", "a,b"), "without commas"),
        (("name", "porch", "0x" + "11" * 20), "begins with neither 0x"),
        (("untag", "porch", "roof"), "carries garden, and not roof"),
    ],
)
def test_fleet__what_it_cannot_use__says_so_in_one_sentence(words, sentence, refused, place, enrolled, done):
    (place / "deployment.json").chmod(0o600)
    (worker,) = enrolled(1)
    done("name", worker, "porch")
    done("tag", "porch", "garden")
    assert sentence in refused("fleet", *words)


def test_disable__wrong_passphrase__sends_nothing(refused, owner, enrolled, active):
    (worker,) = enrolled(1)
    owner(1, "owner.json")
    assert "passphrase is wrong" in refused("fleet", "disable", worker, "-k", "owner.json", passphrase="battery")
    assert active(worker) == [True]


def test_disable__key_file_that_claims_another_account__is_not_believed(refused, owner, enrolled, place, node):
    (worker,) = enrolled(1)
    owner(2, "lie.json")
    lie = json.loads((place / "lie.json").read_text())
    claimed = PrivateKey.from_bytes(node.keys()[1]).public.id
    (place / "lie.json").write_text(json.dumps(lie | {"address": claimed[2:].lower()}))
    assert "holds another account's key" in refused("fleet", "disable", worker, "-k", "lie.json")


def test_disable__nobody_at_the_endpoint__says_so(refused, place):
    url = f"http://127.0.0.1:{free_port()}"
    assert "does not answer" in refused("fleet", "disable", "0x" + "77" * 20, "--rpc", url)


def test_status__nothing_named__shows_the_whole_registry_with_local_names_and_tags(run, done, owner, enrolled):
    first, second = enrolled(1, 2)
    done("name", second, "porch")
    done("tag", "porch", "garden")
    rows = {row["id"]: (row["name"], row["tags"], row["active"]) for row in done("status")}
    assert (rows[first], rows[second]) == (("", [], True), ("porch", ["garden"], True))
    assert [row["id"] for row in done("status", "--tag", "garden")] == [second]
    shown = run("fleet", "status").stdout
    assert all(part in shown for part in (first, second, "porch", "garden"))


def test_untag__nothing_named__takes_all_tags_off(done, enrolled, place):
    (worker,) = enrolled(1)
    done("tag", worker, "garden", "north")
    assert done("untag", worker)["tags"] == []
    assert "garden" not in (place / "31337.book.json").read_text()
