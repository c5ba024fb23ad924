"""An account over several endpoints that fail at any moment: each transaction is signed once and takes effect once."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
from contextlib import asynccontextmanager

import pytest
from chaos_kit import Endpoint, Node
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.chain import failover
from quietfleet.chain.deployment import ContractRecord, Deployment
from quietfleet.chain.failover import Failover
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import ServiceContract
from quietfleet.chain.unsettled import InMemory
from quietfleet.chain.wallet import Wallet
from quietfleet.crypto import keccak256
from quietfleet.errors import ChainError, ChainMismatch, ChainRefused, ChainUnavailable, NotEnoughEther, NotYetMined

CHAIN = 4711
KEY = b"\5" * 32
PLACE = "0x" + "11" * 20
POKE = {"type": "function", "name": "poke", "inputs": [{"name": "n", "type": "uint256"}], "outputs": []}
CONTRACT = ContractRecord(PLACE, (POKE,), 0)
FAULTS = ("", "down", "lost", "kept")


class Chain:
    """What blocks have, and what was ever signed, by nonce."""

    def __init__(self):
        self.mined, self.signed, self.endpoints = {}, {}, {}

    def client(self, url, deployment, _timeout, _transport):
        return self.endpoints.setdefault(url, Stand(self, deployment))

    @property
    def nonces(self):
        return sorted(self.mined)


class Stand(ChainClient):
    """An endpoint with a pool of its own; its `faults` come one with each transaction that is sent to it.

    `down` answers nothing, nor does `lost`, which takes the transaction nevertheless; `kept` takes it and tells no
    block of it, until it is sent once more and that goes well.
    """

    def __init__(self, chain, deployment):
        super().__init__("http://nowhere.invalid", deployment)
        self.chain, self.faults, self.pool, self.dead, self.asked = chain, [], {}, False, 0
        self.refusal, self.kept = "", set()

    async def request(self, method, *parameters):
        self.asked += 1
        if self.dead:
            raise ChainUnavailable("dead")
        return await getattr(self, method)(*parameters)

    async def eth_estimateGas(self, _call):  # noqa: N802 - the protocol's name, as all of these
        return hex(50_000)

    async def eth_getBlockByNumber(self, *_):  # noqa: N802
        return {"baseFeePerGas": hex(7)}

    async def eth_maxPriorityFeePerGas(self):  # noqa: N802
        return hex(1)

    async def eth_getTransactionCount(self, _address, block):  # noqa: N802
        waiting = self.pool if block == "pending" else {}
        return hex(len(self.chain.mined | waiting))

    async def eth_getTransactionReceipt(self, transaction):  # noqa: N802
        self._mine()
        for nonce, raw in self.chain.mined.items():
            if "0x" + keccak256(raw).hex() == transaction:
                place = {"blockNumber": hex(nonce), "gasUsed": "0x1", "status": "0x1"}
                return {"transactionHash": transaction} | place
        return None

    async def eth_sendRawTransaction(self, raw):  # noqa: N802
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "down":
            raise ChainUnavailable("down")
        if self.refusal:
            raise ChainRefused("eth_sendRawTransaction", self.refusal)
        self._take(bytes.fromhex(raw[2:]), fault)
        if fault == "lost":
            raise ChainUnavailable("the connection broke")

    def _take(self, raw, fault):
        nonce = nonce_of(raw)
        self.chain.signed.setdefault(nonce, set()).add(raw)
        if nonce in self.chain.mined:
            raise ChainRefused("eth_sendRawTransaction", "nonce too low")
        known = raw in self.pool.values()
        self.pool[nonce] = raw
        (self.kept.add if fault == "kept" else self.kept.discard)(raw)
        self._mine()
        if known:
            raise ChainRefused("eth_sendRawTransaction", "already known")

    def _mine(self):
        for nonce in sorted(self.pool):
            if nonce == len(self.chain.mined) and self.pool[nonce] not in self.kept:
                self.chain.mined[nonce] = self.pool[nonce]


def nonce_of(raw):
    """The nonce of a signed transaction; each test's account sends fewer than 128."""
    return {0x80: 0}.get(raw[6], raw[6])  # after a type, a list's 2 bytes and the chain's 3


def account(chain, unsettled, urls=("http://a", "http://b"), **how):
    deployment = Deployment(CHAIN, CONTRACT, CONTRACT)
    return Wallet(KEY, Failover(urls, deployment), how.pop("receipt_timeout", 0.2), unsettled=unsettled, **how)


@pytest.fixture
def chain(monkeypatch):
    with standing(monkeypatch) as chain:
        yield chain


class standing:  # noqa: N801 - used as a function
    """Have clients be those of a chain in memory."""

    def __init__(self, patch):
        self._patch = patch

    def __enter__(self):
        chain = Chain()
        self._patch.setattr(failover, "ChainClient", chain.client)
        return chain

    def __exit__(self, *_):
        self._patch.undo()


async def poked(account, *numbers):
    return [await account.send(CONTRACT, "poke", [number]) for number in numbers]


async def test_send__first_endpoint_is_down__the_next_takes_it(chain):
    one = account(chain, InMemory())
    chain.endpoints["http://a"].dead = True
    assert [receipt.block for receipt in await poked(one, 1, 2)] == [0, 1]
    assert chain.endpoints["http://b"].asked > chain.endpoints["http://a"].asked


async def test_send__endpoint_takes_it_and_is_gone__the_same_bytes_go_to_the_next(chain):
    one = account(chain, InMemory())
    chain.endpoints["http://a"].faults = ["lost"]
    await poked(one, 1)
    assert chain.nonces == [0]
    assert all(len(signed) == 1 for signed in chain.signed.values())


async def test_send__endpoint_keeps_it_and_dies_while_we_wait__the_same_bytes_go_to_the_next(chain):
    one = account(chain, InMemory(), receipt_timeout=5.0)
    first = chain.endpoints["http://a"]
    first.faults = ["kept"]
    sending = asyncio.create_task(poked(one, 1))
    while not first.pool:  # noqa: ASYNC110 - a pool has no event to wait for
        await asyncio.sleep(0)
    first.dead = True
    await sending
    assert chain.nonces == [0]
    assert all(len(signed) == 1 for signed in chain.signed.values())


async def test_attack__endpoint_keeps_a_transaction_to_itself__the_next_try_sends_the_same_bytes_elsewhere(chain):
    one = account(chain, InMemory())
    chain.endpoints["http://a"].faults = ["kept"] * 9
    with pytest.raises(NotYetMined):
        await poked(one, 1)
    assert chain.nonces == []
    await poked(one, 1)
    assert chain.nonces == [0]
    assert all(len(signed) == 1 for signed in chain.signed.values())


async def test_send__another_before_is_unsettled__nothing_is_signed_for_its_nonce_nor_after_it(chain):
    one = account(chain, InMemory())
    for stand in chain.endpoints.values():
        stand.faults = ["kept"] * 4
    with pytest.raises(NotYetMined):
        await poked(one, 1)
    with pytest.raises(NotYetMined):
        await poked(one, 2)
    assert sorted(chain.signed) == [0]
    for stand in chain.endpoints.values():
        stand.faults = []
    await one.settle()
    assert await one.settle()
    await poked(one, 2)
    assert {nonce: len(signed) for nonce, signed in chain.signed.items()} == {0: 1, 1: 1}


async def test_account__opened_again_after_a_crash__sends_what_was_signed_and_signs_no_other(chain):
    kept = InMemory()
    before = account(chain, kept)
    for stand in chain.endpoints.values():
        stand.faults = ["kept"]
    with pytest.raises(NotYetMined):
        await poked(before, 1)
    after = account(chain, kept)
    await after.settle()
    assert await after.settle()
    assert chain.nonces == [0]
    assert all(len(signed) == 1 for signed in chain.signed.values())


async def test_send__endpoint_that_lags_is_asked_for_the_nonce__none_is_used_twice(chain):
    one = account(chain, InMemory(), receipt_timeout=2.0)
    chain.endpoints["http://a"].faults = ["kept"]
    first = asyncio.create_task(poked(one, 1))
    while not chain.endpoints["http://a"].pool:  # noqa: ASYNC110 - nor this one
        await asyncio.sleep(0)
    one._client.turn()  # the other has not heard of it
    await asyncio.gather(first, poked(one, 2))
    assert {nonce: len(signed) for nonce, signed in chain.signed.items()} == {0: 1, 1: 1}


async def test_send__refused_by_the_only_one_asked__is_forgotten(chain):
    one, kept = account(chain, unsettled := InMemory()), unsettled
    chain.endpoints["http://a"].refusal = "insufficient funds for gas"
    with pytest.raises(NotEnoughEther):
        await poked(one, 1)
    assert kept.all() == []


async def test_send__refused_after_another_may_have_taken_it__is_kept(chain):
    one, kept = account(chain, unsettled := InMemory()), unsettled
    chain.endpoints["http://a"].faults = ["lost"]
    chain.endpoints["http://b"].refusal = "insufficient funds for gas"
    with pytest.raises(NotEnoughEther):
        await poked(one, 1)
    assert len(kept.all()) == 1


async def test_request__endpoint_of_another_chain__is_passed_over(chain):
    one = account(chain, InMemory())

    async def of_another_chain(*_):
        raise ChainMismatch("it serves chain 1")

    chain.endpoints["http://a"].request = of_another_chain
    await poked(one, 1)
    assert chain.nonces == [0]


@settings(max_examples=60, deadline=None)
@given(
    faults=st.lists(st.lists(st.sampled_from(FAULTS), max_size=6), min_size=3, max_size=3),
    crashes=st.sets(st.integers(0, 7)),
)
def test_calls__endpoints_fail_and_we_crash_at_random__each_is_mined_once_and_no_nonce_signed_twice(faults, crashes):
    asyncio.run(_trial(faults, crashes))


async def _trial(faults, crashes):
    urls = [f"http://{number}" for number in range(len(faults))]
    with standing(pytest.MonkeyPatch()) as chain:
        kept = InMemory()
        one = account(chain, kept, urls, receipt_timeout=0.02)
        for url, planned in zip(urls, faults, strict=True):
            chain.endpoints[url].faults = planned
        wanted, tries = [1, 2, 3], 0
        while wanted:
            tries += 1
            assert tries < 40
            if tries in crashes:
                one = account(chain, kept, urls, receipt_timeout=0.02)
            try:
                await poked(one, wanted[0])
            except ChainError:
                continue
            wanted.pop(0)
        assert chain.nonces == [0, 1, 2]
        assert all(len(signed) == 1 for signed in chain.signed.values())


class Breaking(Endpoint):
    """Passes everything on, and hangs up once it has passed on a transaction."""

    def _answer(self, asked, _fault):
        connection = http.client.HTTPConnection("127.0.0.1", self._node.port, timeout=30)
        connection.request("POST", "/", json.dumps(asked), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        if asked["method"] == "eth_sendRawTransaction" and self.breaks:
            raise ConnectionError("hung up")
        return answer


@asynccontextmanager
async def two_ways(node):
    """Two endpoints before one node, the first of which hangs up on transactions."""
    ways = [Breaking(Node(node), random.Random(1)) for _ in range(2)]
    for way, way.breaks in zip(ways, (True, False), strict=True):
        await way.start()
    try:
        yield ways
    finally:
        for way in ways:
            way.close()


async def test_send__on_a_real_chain_and_the_endpoint_hangs_up_once_it_has_it__takes_effect_once(
    anvil, deployment, service_owner_key
):
    async with two_ways(anvil) as ways, Failover([way.url for way in ways], deployment) as client:
        one = ServiceContract(client, signer := Wallet(service_owner_key, client))
        before = await signer._nonce("latest")
        for least in (0.25, 0.5):
            await one.set_pow_bounds(least, 64.0)
        assert await one.pow_bounds() == (0.5, 64.0)
        assert await signer._nonce("latest") == before + 2
        assert client.endpoint == 1
