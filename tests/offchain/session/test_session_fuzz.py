"""Three workers, an attacker in the middle, and every misfortune a network and a fleet have, against a plain model.

The model knows what was said: by whom, to whom, in which conversation, in which order. Nothing is ever heard that was
not said, or twice, or out of order; no key serves twice; who was switched off hears nothing and is not heard; and when
the network heals, everything still wanted arrives.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from session_world import REPLACED, Answer, Other, Question, World

from quietfleet.errors import HandshakeRefused
from quietfleet.session import Expired, Received, State, Transmission
from quietfleet.session._codec import Mode
from quietfleet.session._table import Table

NAMES = ("a", "b", "c")
PATIENT = 590.0
ROUND = 7.0  # seconds of a round while the network heals; longer than the first repetition
SHM = Path("/dev/shm")  # noqa: S108 - quicker than a disk, where there is one

names = st.sampled_from(NAMES)
pairs = st.permutations(NAMES).map(lambda some: some[:2])
picks = st.integers(0, 1 << 16)


class Model:
    """What was said, and what must not come any more."""

    def __init__(self):
        self.said = {}  # (sender, receiver, conversation) → texts in order
        self.place = {}  # text → that key
        self.off = set()
        self.count = 0

    def say(self, sender, receiver, conversation):
        self.count += 1
        text = f"{sender} to {receiver} in {conversation}: {self.count}"
        self.said.setdefault((sender, receiver, conversation), []).append(text)
        self.place[text] = sender, receiver, conversation
        return text


class Misfortunes(RuleBasedStateMachine):
    """One run: rules happen in any order, and after each the world is held against the model."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None)
        self.world = World(Path(self.folder.name))
        self.model = Model()
        self.flights: list[tuple[str, Transmission]] = []
        self.recorded: list[Transmission] = []
        self.heard = {name: [] for name in NAMES}
        self.expired = set()
        self.first = {}
        self.ungranted = set()
        self.keys = set()
        self._next_key = Table.next_key

        def next_key(table, session, version):
            message = self._next_key(table, session, version)
            assert message.key not in self.keys, "a key served twice"
            self.keys.add(message.key)
            return message

        Table.next_key = next_key

    @initialize()
    def begin(self):
        for name in NAMES:
            self.world.party(name)
        self.world.rotate(grace=30)
        for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
            self.dial(one, other)
        self.exchange()

    # what workers do

    def party(self, name):
        return self.world.parties[name]

    @rule(pair=pairs)
    def call(self, pair):
        self.dial(*pair)

    def dial(self, one, other):
        card = self.party(other).messenger.own_card()
        if card is not None:
            with suppress(HandshakeRefused):
                self.party(one).messenger.connect(card, "deal")

    @rule(
        pair=pairs,
        conversation=st.integers(0, 1),
        words=st.lists(st.tuples(st.booleans(), st.sampled_from((8.0, PATIENT))), min_size=1, max_size=4),
    )
    def talk(self, pair, conversation, words):
        for question, within in words:
            if not {*pair} & self.model.off:
                self.say(*pair, conversation, question=question, within=within)
        self.send()

    def say(self, one, other, conversation, *, question, within):
        key = (one, other, conversation)
        text, opened = self.model.say(*key), self.first.get(key)
        messenger, peer = self.party(one).messenger, self.party(other).id
        if question:
            said = messenger.request(peer, Question(text), (Answer,), within, text, conversation=opened)
        else:
            said = messenger.notify(peer, Other(text), within, text, conversation=opened)
        self.first.setdefault(key, said)

    @rule()
    def send(self):
        for name in NAMES:
            self.party(name).tick()
            left = [(name, transmission) for transmission in self.party(name).sendable()]
            self.flights += left
            self.recorded += [transmission for _, transmission in left]

    @rule(seconds=st.integers(1, 20))
    def time(self, seconds):
        self.world.clock.advance(seconds)

    # what the network does

    def carry(self, sender, transmission):
        for name in NAMES:
            if name != sender:
                self.party(name).take(transmission)

    @rule()
    def exchange(self):
        for _ in range(3):
            self.send()
            flights, self.flights = self.flights, []
            for sender, transmission in flights:
                self.carry(sender, transmission)

    @precondition(lambda self: self.flights)
    @rule(pick=picks, twice=st.booleans())
    def deliver(self, pick, twice):
        sender, transmission = self.flights.pop(pick % len(self.flights))
        for _ in range(1 + twice):
            self.carry(sender, transmission)

    @rule(backwards=st.booleans(), lost=st.sets(st.integers(0, 9)))
    def scramble(self, backwards, lost):
        """Everything arrives, in the wrong order or with holes."""
        flights, self.flights = self.flights[:: -1 if backwards else 1], []
        for n, (sender, transmission) in enumerate(flights):
            if n % 10 not in lost:
                self.carry(sender, transmission)

    @precondition(lambda self: self.flights)
    @rule(pick=picks, many=st.integers(1, 4))
    def lose(self, pick, many):
        for n in range(min(many, len(self.flights))):
            self.flights.pop((pick + n) % len(self.flights))

    # what an attacker does

    @precondition(lambda self: self.recorded)
    @rule(pick=picks, bit=picks, data=st.binary(max_size=64))
    def attack(self, pick, bit, data):
        """Replay something recorded; put other bytes under its topic; change one bit of it."""
        genuine = self.recorded[pick % len(self.recorded)]
        flipped = bytearray(genuine.data)
        flipped[bit // 8 % len(flipped)] ^= 1 << bit % 8
        for topic, sent in ((genuine.topic, bytes(flipped)), (genuine.topic, data), (data[:4].ljust(4), genuine.data)):
            self.carry("", Transmission("", topic, sent))
        self.carry("", genuine)

    # what happens to a fleet

    @rule(lead=st.sampled_from([0, 5]), grace=st.sampled_from([0, 20]), late=st.none() | names)
    def rotate(self, lead, grace, late):
        given = [self.party(name) for name in NAMES if name != late]
        self.world.rotate(lead=lead, grace=grace, give_key_to=given)
        self.ungranted = {late} - {None}

    @precondition(lambda self: self.ungranted)
    @rule()
    def grant(self):
        for name in self.ungranted:
            self.world.grant(self.party(name))
        self.ungranted = set()

    @rule(name=names)
    def replace_key(self, name):
        self.world.rekey(self.party(name))
        assert all(self.party(other).messenger.state(self.party(name).id) is not State.OPEN for other in NAMES)

    @precondition(lambda self: not self.model.off)
    @rule(name=names, rarely=st.integers(0, 9))
    def switch_off(self, name, rarely):
        if rarely != 7:
            return
        self.collect()
        self.model.off.add(name)
        self.world.registry.off.add(self.party(name).id)
        for other in set(NAMES) - {name}:
            self.party(other).note(self.party(other).messenger.sever(self.party(name).id, "switched off"))
        self.collect()

    @rule(name=names)
    def crash(self, name):
        self.collect()
        self.world.restart(self.party(name))
        self.party(name).note(self.party(name).messenger.disown(self.world.registry.speaks_for, REPLACED))

    @precondition(lambda self: self.flights)
    @rule(pick=picks, name=names)
    def fail(self, pick, name):
        sender, transmission = self.flights[pick % len(self.flights)]
        party = self.party(name)
        if sender == name:
            return
        with suppress(ZeroDivisionError), party.database.transaction():
            party.messenger.receive(transmission.topic, transmission.data)
            _ = 1 / 0
        party.messenger.reload()

    # what must hold

    def collect(self):
        for name in NAMES:
            events, self.party(name).events = self.party(name).events, []
            for event in events:
                if isinstance(event, Received) and isinstance(event.body, Other | Question):
                    self.hear(name, event)
                if isinstance(event, Expired):
                    self.expired.add(event.context)

    def hear(self, name, event):
        text = event.body.text
        sender, receiver, _ = self.model.place[text]
        assert (self.party(sender).id, receiver) == (event.peer, name), "not said by whom it seems"
        assert not {sender, receiver} & self.model.off, "switched off and heard"
        assert text not in self.heard[name], "heard twice"
        self.heard[name].append(text)

    @invariant()
    def nothing_that_was_not_said_nor_twice_nor_out_of_order(self):
        if self.world.parties:
            self.collect()
        for (_, receiver, _), said in self.model.said.items():
            mine = set(said)
            heard = [text for text in self.heard[receiver] if text in mine]
            assert heard == [text for text in said if text in set(heard)]

    @invariant()
    def nothing_leaves_for_who_was_switched_off(self):
        for name in self.model.off:
            left = self.party(name)
            for other in set(NAMES) - {name}:
                assert self.party(other).messenger.state(left.id) is not State.OPEN
                assert all(t.peer != left.id for t in self.party(other).messenger._departures.controls)

    def teardown(self):
        try:
            if self.world.parties:
                self.heal()
        finally:
            Table.next_key = self._next_key
            for party in self.world.parties.values():
                party.database.close()
            self.folder.cleanup()

    def heal(self):
        """From now on nothing is lost: in a while all that is still wanted must be there, and nothing wait any more."""
        self.world.clock.advance(6)  # no version waits any more
        self.ungranted = set(NAMES)
        self.grant()
        on = [name for name in NAMES if name not in self.model.off]
        for _ in range(30):  # a session that is dead on one side is given up only after a while
            for one in on:
                for other in on:
                    if one < other and self.party(one).messenger.session(self.party(other).id) is None:
                        self.dial(one, other)
            self.exchange()
            self.world.clock.advance(ROUND)
        self.nothing_that_was_not_said_nor_twice_nor_out_of_order()
        heard = {text for texts in self.heard.values() for text in texts}
        wanted = {t for t, (sender, receiver, _) in self.model.place.items() if not {sender, receiver} & self.model.off}
        assert wanted - self.expired - heard == set(), "lost"
        for name in on:
            waits = self.party(name).messenger.conversations.pending.values()
            assert {p.context for p in waits if p.mode is Mode.NOTICE} == set(), "never acknowledged"


TestMisfortunes = Misfortunes.TestCase
TestMisfortunes.settings = settings(max_examples=20, stateful_step_count=30, deadline=None, derandomize=True)
