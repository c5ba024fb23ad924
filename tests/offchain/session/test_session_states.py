"""How two workers stand with each other is what the table says: every cause is tried in every state there is.

`QUIETFLEET_DRAW=1 pytest tests/offchain/session/test_session_states.py` draws docs/protocol.md anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from session_world import Answer, Question, World

from quietfleet.session._keeping import CONFIRM_WITHIN, UNHEARD
from quietfleet.session._states import STEPS, Cause, State

PAGE = Path(__file__).parents[3] / "docs" / "protocol.md"
PLACE = re.compile(r"(<!-- drawn: session -->\n)(.*?)(\n<!-- end -->)", re.DOTALL)


class Pair:
    """Two workers of one version, seen from the first."""

    def __init__(self, folder):
        self.world = World(folder)
        parties = self.world.party("a"), self.world.party("b")
        self.a, self.b = sorted(parties, key=lambda party: party.id.lower())
        self.world.rotate()

    @property
    def state(self):
        return self.a.messenger.state(self.b.id)

    def happen(self, cause):
        """Let a cause happen; False if it cannot in this state."""
        return getattr(self, f"_{cause.name.lower()}")() is not False

    def _carry(self, sender, receiver):
        sender.tick()
        for transmission in sender.sendable():
            receiver.take(transmission)

    def _we_call(self):
        self.a.messenger.connect(self.b.messenger.own_card(), "deal:1")

    def _they_call(self):
        self.b.messenger._calls.hang_up(lambda _: True)  # a call of its own, not the one before once more
        self.b.messenger.connect(self.a.messenger.own_card(), "deal:2")
        self._carry(self.b, self.a)

    def _they_answer(self):
        if self.b.id not in self.a.messenger._calls.peers():
            return False
        self._carry(self.a, self.b)
        self._carry(self.b, self.a)
        return True

    def _first_word(self):
        if self.state is not State.ANSWERED:
            return False
        self._carry(self.a, self.b)
        self._carry(self.b, self.a)
        return True

    def _patience_ends(self):
        self.world.clock.advance(CONFIRM_WITHIN + 1)
        self.a.tick()

    def _silence(self):
        if self.a.messenger.session(self.b.id) is None:
            return False
        for n in range(UNHEARD):
            self.a.messenger.request(self.b.id, Question(str(n)), (Answer,), 500)
        self.a.sendable()
        self._patience_ends()
        return True

    def _goodbye(self):
        if self.state is not State.OPEN:
            return False
        self._carry(self.a, self.b)
        self.b.note(self.b.messenger.leave(self.a.id, "moving on"))
        self._carry(self.b, self.a)
        return True

    def _severed(self):
        self.a.note(self.a.messenger.sever(self.b.id, "switched off"))

    def _version_ends(self):
        self.world.rotate(grace=0, give_key_to=[self.b])
        self.a.tick()

    def _key_comes(self):
        if self.a.messenger.epochs.epoch_key(self.world.latest.version) is not None:
            return False
        self.world.grant(self.a)
        return True


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Where each cause leads from each state, as the messenger has it."""

    def after(path):
        pair = Pair(tmp_path_factory.mktemp("pair"))
        possible = [pair.happen(cause) for cause in path]
        return pair.state, all(possible)

    paths, steps, waiting = {}, {}, [[]]
    while waiting:
        path = waiting.pop(0)
        state, _ = after(path)
        if state in paths:
            continue
        paths[state] = path
        for cause in Cause:
            then, happened = after([*path, cause])
            if happened and then is not state:
                steps[state, cause] = then
                waiting.append([*path, cause])
    assert set(paths) == set(State)
    return steps


def drawing():
    arrows = {}
    for (state, cause), then in STEPS.items():
        arrows.setdefault((state, then), []).append(cause.value)
    lines = [f"  {a} --> {b}: {', '.join(causes)}" for (a, b), causes in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"  [*] --> {State.APART}", *lines, "```"])


def test_table__every_cause_in_every_state__leads_where_the_table_says(found):
    assert {key: STEPS.get(key) for key in found} == found
    assert {key: found.get(key) for key in STEPS} == STEPS


def test_drawing__session__is_the_table():
    page = PAGE.read_text()
    if os.environ.get("QUIETFLEET_DRAW"):
        PAGE.write_text(PLACE.sub(lambda place: place[1] + drawing() + place[3], page))
        return
    place = PLACE.search(page)
    assert place is not None
    assert place[2] == drawing()
