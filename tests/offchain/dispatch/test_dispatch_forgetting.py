"""What is left in the oracle's memory and on its disk once a deal is settled or over, byte by byte."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import msgspec
import pytest
from dispatch_kit import READINGS, Chain, Oracle, counting

from quietfleet.dispatch import (
    LONGEST_OFFER,
    REMEMBER,
    Accept,
    Dispatcher,
    DispatchStore,
    Equals,
    Introduction,
    Offer,
    Proposal,
    ProviderMachine,
    Release,
    Seek,
    SeekerMachine,
    Service,
    Wish,
    Withdraw,
    drop_old_tables,
)
from quietfleet.storage import Database

CARDS = {name: f"card of {name} ".encode() * 20 for name in ("sensor", "processor")}
SITE = "a site that only these two ask about"


class Deal:
    """One deal through the real machines, with everything that was said and every row that was ever on disk."""

    def __init__(self, oracle: Oracle, database: Database) -> None:
        self.oracle, self.database = oracle, database
        service = Service(READINGS, {"site": SITE}, capacity=1)
        self.machines: dict[str, Any] = {
            "processor": ProviderMachine(service, counting()),
            "sensor": SeekerMachine(Wish("readings", constraints=(Equals("site", SITE),)), _other_random()),
        }
        self.heard: list[Any] = []
        self.said: list[Any] = []
        self.rows: set[bytes] = set()
        for name, machine in self.machines.items():
            self.send(name, machine.start(oracle.now))

    def send(self, name: str, words: list[Any]) -> None:
        for word in words:
            self.heard.append(word)
            said = self.oracle.hear(name, word)
            self.rows |= {row for (row,) in self.database.execute("SELECT row FROM dispatch_book").fetchall()}
            for to, answer in said:
                self.arrive(to, answer)

    def arrive(self, to: str, word: Any) -> None:
        self.said.append(word)
        machine = self.machines[to]
        self.send(to, machine.receive(word, self.oracle.now))
        if isinstance(machine, SeekerMachine):
            self.send(to, machine.accept(CARDS[to], self.oracle.now))
        elif isinstance(word, Proposal):
            self.send(to, machine.accept(word.deal_id, CARDS[to], self.oracle.now))

    @property
    def deal_id(self) -> str:
        return str(self.machines["sensor"].deal_id)

    def secrets(self) -> dict[str, str | bytes]:
        """What the oracle was told of this deal and must not keep once it is settled."""
        accepts = [word for word in self.heard if isinstance(word, Accept)]
        proposal = next(word for word in self.said if isinstance(word, Proposal))
        seek = next(word for word in self.heard if isinstance(word, Seek))
        return {
            "a sealed card": accepts[0].card,
            "the other sealed card": accepts[1].card,
            "the seeker's key": seek.reply_key,
            "a key of the deal": proposal.own_key,
            "the other key of the deal": proposal.other_key,
            "the seek": seek.seek_id,
        }


@pytest.fixture
def deal(oracle: Oracle, database: Database) -> Deal:
    deal = Deal(oracle, database)
    assert [deal.machines["sensor"].card, deal.machines["processor"].deals[deal.deal_id].card] == [
        CARDS["processor"],
        CARDS["sensor"],
    ]
    return deal


def test_relay__both_introduced__no_card_in_clear_in_any_word(deal: Deal) -> None:
    assert sum(isinstance(word, Introduction) for word in deal.said) == 2
    for word in (*deal.heard, *deal.said):
        assert b"card of" not in msgspec.msgpack.encode(word)


def test_memory__deal_just_introduced__holds_what_a_lost_introduction_needs(deal: Deal) -> None:
    """The positive one: the walk below does find what is there."""
    held = set(texts(deal.oracle.dispatcher))
    assert {deal.secrets()["a sealed card"], deal.deal_id, "sensor"} <= held


def test_memory__deal_settled__holds_neither_card_key_constraint_nor_seek(deal: Deal) -> None:
    deal.oracle.wait(REMEMBER)
    deal.oracle.hear("processor", Withdraw(deal.machines["processor"]._offer_id))
    held = set(texts(deal.oracle.dispatcher))
    assert not {name for name, secret in deal.secrets().items() if secret in held}
    assert SITE not in held
    assert {deal.deal_id, "sensor", "processor"} <= held, "its place lasts"


@pytest.mark.parametrize("settled", [False, True])
def test_memory__deal_over_and_offer_withdrawn__holds_no_name_at_all(deal: Deal, settled: bool) -> None:
    offer = next(word for word in deal.heard if isinstance(word, Offer))
    if settled:
        deal.oracle.wait(REMEMBER)
    deal.oracle.hear("sensor", Release(deal.deal_id))
    deal.oracle.hear("processor", Withdraw(offer.offer_id))
    held = set(texts(deal.oracle.dispatcher))
    gone = {*deal.secrets().values(), *offer.reply_keys, offer.offer_id, deal.deal_id, SITE, "sensor", "processor"}
    assert not gone & held
    assert not [text for text in held if isinstance(text, str) and ("sensor" in text or "processor" in text)]


def test_disk__deal_over__no_row_that_ever_stood_there_is_left_in_file_or_log(deal: Deal) -> None:
    deal.oracle.hear("sensor", Release(deal.deal_id))
    deal.oracle.hear("processor", Withdraw(deal.machines["processor"]._offer_id))
    kept = {row for (row,) in deal.database.execute("SELECT row FROM dispatch_book").fetchall()}
    deal.database.truncate_log()
    content = raw(deal.database)
    assert len(deal.rows) > 6
    assert not [row for row in deal.rows - kept if row[:24] in content or row[-24:] in content]


def test_disk__everything_expired__no_row_at_all(deal: Deal) -> None:
    deal.oracle.hear("sensor", Release(deal.deal_id))
    deal.oracle.wait(LONGEST_OFFER)
    assert deal.database.execute("SELECT COUNT(*) FROM dispatch_book").fetchone() == (0,)


def test_disk__at_any_time__neither_name_card_nor_key_in_clear(deal: Deal) -> None:
    content = raw(deal.database)
    for secret in (*deal.secrets().values(), deal.deal_id, "sensor", "processor", SITE):
        assert (secret.encode() if isinstance(secret, str) else secret) not in content


def test_disk__tables_of_an_earlier_release__erased(database: Database) -> None:
    database.execute("CREATE TABLE dispatch_deals (seeker TEXT)")
    database.execute("INSERT INTO dispatch_deals VALUES ('somebody who sought long ago')")
    database.execute("INSERT INTO schema VALUES ('dispatch', 1)")
    drop_old_tables(database)
    database.truncate_log()
    assert b"somebody who sought" not in raw(database)
    Dispatcher(DispatchStore(database, b"k" * 32, counting()), counting(), Chain()).tick(0.0)


def texts(root: object) -> Iterator[str | bytes]:
    """Every text and every piece of bytes that an object reaches, without code and classes."""
    seen: dict[int, object] = {}  # holds them, so that no id comes twice
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | ModuleType | FunctionType | Database | Chain):
            continue
        seen[id(each)] = each
        if isinstance(each, str | bytes):
            yield each
        waiting += gc.get_referents(each)


def raw(database: Database) -> bytes:
    return b"".join(file.read_bytes() for file in database.path.parent.glob(f"{database.path.name}*"))


def _other_random() -> Any:
    random = counting()
    return lambda size: random(size + 1)[1:]
