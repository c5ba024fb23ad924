"""A processor's record of recalibrations against a plain model of it, also after it is opened anew."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.monitor.recalibration import Affine, Did, Recalibration
from quietfleet.storage import Database
from quietfleet.workers._recalibrations import UNANSWERED, WAITING, Recalibrated

DEVICES = ["0xa", "0xb", "0xc"]
KEY = PrivateKey.from_bytes(keccak256(b"sensor"))
devices = st.sampled_from(DEVICES)


class Record(RuleBasedStateMachine):
    """Every question ends in one way, and every answer that changed something is told once."""

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(Path(self.folder.name) / "worker.db")
        self.ledger = Recalibrated(self.database)
        self.questions = []  # [device, nonce, state]
        self.in_force = {}
        self.untold = []
        self.requested = []

    @rule(device=devices, routine=st.booleans())
    def ask(self, device, routine):
        for question in self.questions:
            if question[0] == device and question[2] == WAITING:
                question[2] = UNANSWERED
        nonce = len(self.questions).to_bytes(16, "big")
        self.questions.append([device, nonce, WAITING])
        self.ledger.ask(
            device, nonce, "why", now=1.0, proposed={"temp": Affine(1.0, 1.0)}, withheld={}, routine=routine
        )

    @rule(device=devices, did=st.sampled_from(list(Did)), offset=st.floats(-5, 5))
    def answer(self, device, did, offset):
        asked = self.ledger.open(device)
        if asked is None:
            return
        number = next(place for place, one in enumerate(self.questions, 1) if one[1] == asked.nonce)
        self.questions[number - 1][2] = did.value
        result = Recalibration(asked.nonce, did, 1.0, {"temp": Affine(offset, 1.0)})
        other = did is Did.CORRECTED or (did is Did.CHECKED and not asked.routine)
        assert self.ledger.answered(asked, result.signed(KEY), 1.0) is other
        if did is not Did.REFUSED:
            self.in_force[device] = {"temp": Affine(offset, 1.0)}
        if other:
            self.untold.append(number)

    @rule(device=devices)
    def give_up(self, device):
        self.ledger.unanswered(device)
        for question in self.questions:
            if question[0] == device and question[2] == WAITING:
                question[2] = UNANSWERED

    @precondition(lambda self: self.untold)
    @rule()
    def tell(self):
        number = self.ledger.to_tell().number
        assert number == min(self.untold)
        self.ledger.told(number)
        self.untold.remove(number)

    @rule(device=devices)
    def request(self, device):
        self.ledger.request(device, ["temp"], "moved")
        self.requested.append(device)

    @precondition(lambda self: self.requested)
    @rule()
    def serve(self):
        first = self.ledger.requests()[0]
        assert (first.device, first.channels, first.why) == (self.requested.pop(0), ["temp"], "moved")
        self.ledger.served(first.number)

    @rule()
    def open_anew(self):
        self.database.close()
        self.database = Database(Path(self.folder.name) / "worker.db")
        self.ledger = Recalibrated(self.database)

    @invariant()
    def is_as_the_model_has_it(self):
        assert [(one.device, one.nonce, one.state) for one in self.ledger.all()] == list(map(tuple, self.questions))
        assert {device: self.ledger.in_force(device) for device in self.in_force} == self.in_force
        assert all(self.ledger.in_force(device) == {} for device in DEVICES if device not in self.in_force)
        assert (self.ledger.to_tell() is None) == (not self.untold)
        assert [one.device for one in self.ledger.requests()] == self.requested

    def teardown(self):
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()


TestRecord = Record.TestCase
TestRecord.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
