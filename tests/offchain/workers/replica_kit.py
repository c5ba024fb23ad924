"""Members of one oracle on a store: what they may write, whoever sleeps, dies or comes back."""

from __future__ import annotations

import random as randomness
from dataclasses import dataclass

from quietfleet.clock import ManualClock
from quietfleet.errors import Fenced
from quietfleet.workers._replicas import Replicas

SECRET = b"s" * 32
PEERS = [f"0x{number:040x}" for number in range(60)]


@dataclass
class Member:
    """One replica: it looks, beats and writes when told to, with a store opened by itself."""

    replicas: Replicas
    store: object

    def attend(self, now):
        """What a replica does before every step."""
        try:
            self.replicas.look(now)
            if not self.replicas.present:
                self.replicas.join()
            self.replicas.beat(now)
        except Fenced:
            self.replicas.look(now)

    def write(self, row_id, row):
        """Write by what is in memory, however old that is; False if the store refuses."""
        try:
            with self.store.transaction():
                self.store.table("things").put(row_id, row)
        except Fenced:
            return False
        return True


class Team:
    """Replicas of one oracle and the clock they go by."""

    def __init__(self, opening, seed=1):
        self.opening = opening
        self.clock = ManualClock(0.0)
        self._random = randomness.Random(seed)
        self.members = []

    def add(self, seen=0):
        store = self.opening()
        replicas = Replicas(store, SECRET, self._random.randbytes, self._random.randbytes(16), seen)
        self.members.append(Member(replicas, store))
        return self.members[-1]

    def start(self, count):
        for _ in range(count):
            self.add().replicas.join()
        for member in self.members:
            member.attend(self.clock.now())
        return self.members

    def pass_time(self, seconds, *awake):
        """Let so many seconds pass in which some attend and the others sleep."""
        for _ in range(int(seconds / 0.5)):
            self.clock.advance(0.5)
            for member in awake:
                member.attend(self.clock.now())

    def close(self):
        for member in self.members:
            member.store.close()
