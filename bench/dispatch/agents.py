"""What the workers of the bench do: the product's own two sides of dispatch, one deal after the other."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from bench.dispatch.plan import Plan

from quietfleet.dispatch import FromOracle, FromWorker, Seek
from quietfleet.session import Closed, Event, Opened, Received
from quietfleet.workers._partners import Partners
from quietfleet.workers._provider import Provider
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._seeking import Seeking
from quietfleet.workers._state import State
from quietfleet.workers.messages import DEAL, Readings, Recommendation

_ANSWER_WITHIN: Final = 20.0
_ROW: Final = (0.0, {"temp": 20.0})


@dataclass(slots=True)
class Board:
    """What happened, on one clock: when each seeker sought, and how long its deals took."""

    plan: Plan
    going: bool = False
    seeking: set[str] = field(default_factory=set)
    began: dict[str, float] = field(default_factory=dict)
    introduced: list[float] = field(default_factory=list)
    first_messages: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def since(self, seeker: str) -> float:
        return time.monotonic() - self.began[seeker]

    def may_seek(self, seeker: str) -> bool:
        """Take a turn, if there is one."""
        if seeker not in self.seeking and len(self.seeking) < self.plan.at_once:
            self.seeking.add(seeker)
        return seeker in self.seeking

    def had_turn(self, seeker: str) -> None:
        """Give the turn to whoever asks next; where there is one for everybody, keep it."""
        if self.plan.at_once < self.plan.seekers:
            self.seeking.discard(seeker)

    def clear(self) -> None:
        self.introduced, self.first_messages = [], []
        self.counts.clear()


class _Agent:
    """What is alike for both."""

    def __init__(self, runtime: Runtime, board: Board) -> None:
        self._runtime, self._board = runtime, board
        self._state, self._partners = State(runtime.database), Partners(runtime)

    def on_change(self, change: Any) -> None:
        """Nothing on this chain ever changes."""

    async def after(self) -> None:
        """It starts nothing."""

    def recover(self) -> None:
        self._board.counts["steps undone"] += 1

    def status(self) -> dict[str, Any]:
        return {}


class Serving(_Agent):
    """A provider: takes every deal, and answers every first message."""

    def __init__(self, runtime: Runtime, board: Board) -> None:
        super().__init__(runtime, board)
        self._provider = Provider(runtime, self._state, self._partners)

    def admit(self, peer: str, purpose: str) -> bool:
        return self._provider.expects(peer, purpose)

    def on_event(self, event: Event) -> None:
        match event:
            case Received(body=Readings()):
                self._board.first_messages.append(self._board.since(event.peer))
                self._runtime.messenger.reply(event, Recommendation(1, ""))
            case Received() if isinstance(event.body, FromOracle):
                self._provider.receive(event.peer, event.body)
            case Opened(purpose=purpose) if purpose.startswith(DEAL):
                self._provider.opened(purpose)
            case Closed(purpose=purpose) if purpose.startswith(DEAL):
                self._provider.ended(purpose)

    def on_tick(self) -> None:
        self._provider.tick(self._runtime.clock.now())


class OneAfterAnother(_Agent):
    """A seeker: seeks, takes what is proposed, says its first message, ends the deal and seeks again."""

    def __init__(self, runtime: Runtime, board: Board) -> None:
        super().__init__(runtime, board)
        self._seeking = _Timed(runtime, self._state, self._partners, board)

    def admit(self, _peer: str, _purpose: str) -> bool:
        return False

    def on_event(self, event: Event) -> None:
        match event:
            case Received(body=Recommendation()):
                self._runtime.feed(self._runtime.messenger.leave(event.peer, "done"))
            case Received() if isinstance(event.body, FromOracle):
                self._board.counts[type(event.body).__name__] += 1
                self._seeking.receive(event.peer, event.body)
            case Opened(purpose=purpose) if purpose.startswith(DEAL):
                self._seeking.opened(event.peer)
                self._runtime.messenger.request(event.peer, Readings(0, [_ROW]), (Recommendation,), _ANSWER_WITHIN)
            case Closed(purpose=purpose) if purpose.startswith(DEAL):
                self._seeking.closed(purpose)

    def on_tick(self) -> None:
        if self._board.going:
            self._seeking.tick(self._runtime.clock.now())


class _Timed(Seeking):
    """Notes when it sought and when it was introduced; where deals alone are measured, it ends each at once."""

    def __init__(self, runtime: Runtime, state: State, partners: Partners, board: Board) -> None:
        super().__init__(runtime, state, partners)
        self._board = board
        self._sought = ""

    def _tell(self, messages: list[FromWorker]) -> None:
        for message in messages:
            if isinstance(message, Seek) and message.seek_id != self._sought:
                self._sought, self._board.began[self._runtime.id] = message.seek_id, time.monotonic()
        super()._tell(messages)

    def tick(self, now: float) -> None:
        if self._board.may_seek(self._runtime.id):
            super().tick(now)

    def _idle(self, now: float) -> None:
        if self._runtime.id in self._board.seeking:
            super()._idle(now)

    def closed(self, purpose: str) -> bool:
        self._board.had_turn(self._runtime.id)
        return super().closed(purpose)

    def _introduced(self, now: float) -> None:
        self._board.introduced.append(self._board.since(self._runtime.id))
        tie, shown = self._machine.tie, self._machine.card
        if self._board.plan.whole or tie is None or shown is None:
            super()._introduced(now)
            return
        self._state.set("deal", {"id": tie.deal_id, "name": tie.name, "oracle": self._oracle, "until": now})
        self.opened(self._partners.checked(shown).worker)  # as if there had been a session: so the oracle hears
        self._board.had_turn(self._runtime.id)
        self._start_over(now)
