"""Any order of enrolments, switches, transfers and suspensions, against a plain model of what should come of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import ape
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from mirrors import FAR, FEE, ZERO, Device, Flag, Kind

DEVICES = [Device.numbered(number) for number in range(3)]
PARTNERS = {
    (Kind.SENSOR, Kind.PROCESSOR),
    (Kind.PROCESSOR, Kind.GATEWAY),
    (Kind.GATEWAY, Kind.GATEWAY),
    (Kind.SENSOR, Kind.ORACLE),
    (Kind.PROCESSOR, Kind.ORACLE),
    (Kind.GATEWAY, Kind.ORACLE),
}
devices = st.sampled_from(DEVICES)
people = st.integers(0, 1)


@dataclass
class Expected:
    owner: object
    kind: Kind
    flags: Flag = Flag.ACTIVE
    sequence: int = 1
    offered_to: object = None

    def works(self):
        return self.flags == Flag.ACTIVE


class ServiceMachine(RuleBasedStateMachine):
    """The rules; a subclass brings the chain, the contract and the accounts."""

    chain = service = service_owner = owners = None

    def __init__(self):
        super().__init__()
        self.home = self.chain.snapshot()
        self.workers = {}
        self.revenue = 0

    def teardown(self):
        self.chain.restore(self.home)

    def attempt(self, error, call):
        """Makes the call, which reverts with the named error or, when there is none, leaves one numbered event."""
        if error is None:
            return call()
        with ape.reverts(getattr(self.service, error)):
            call()
        return None

    def changed(self, receipt, worker):
        """After a change that should have come through: the next number, in the last event."""
        if receipt is not None:
            worker.sequence += 1
            assert receipt.events[-1].sequence == worker.sequence
        return receipt is not None

    def refusal(self, device, person):
        """Why the person cannot do an owner's action to a worker at all, or None."""
        worker = self.workers.get(device.id)
        if worker is None:
            return "UnknownWorker"
        if worker.owner != self.owners[person]:
            return "NotWorkerOwner"
        return "WorkerRetired" if Flag.RETIRED in worker.flags else None

    @rule(device=devices, person=people, kind=st.sampled_from(Kind))
    def enrol(self, device, person, kind):
        owner = self.owners[person]
        consent = device.consent(self.service, owner, kind)
        error = "AlreadyEnrolled" if device.id in self.workers else None
        call = (*device.point, kind, FAR, consent)
        if self.attempt(error, lambda: self.service.enrol(*call, sender=owner, value=FEE)):
            self.workers[device.id] = Expected(owner, kind)
            self.revenue += FEE

    @rule(device=devices, person=people, active=st.booleans())
    def switch(self, device, person, active):
        worker = self.workers.get(device.id)
        error = self.refusal(device, person)
        if error is None and (Flag.ACTIVE in worker.flags) == active:
            error = "Unchanged"
        sender = self.owners[person]
        if self.changed(self.attempt(error, lambda: self.service.setActive(device.id, active, sender=sender)), worker):
            worker.flags ^= Flag.ACTIVE

    @rule(device=devices, suspended=st.booleans())
    def suspend(self, device, suspended):
        worker = self.workers.get(device.id)
        error = None
        if worker is None:
            error = "UnknownWorker"
        elif Flag.RETIRED in worker.flags:
            error = "WorkerRetired"
        elif (Flag.SUSPENDED in worker.flags) == suspended:
            error = "Unchanged"
        receipt = self.attempt(
            error, lambda: self.service.setSuspended(device.id, suspended, sender=self.service_owner)
        )
        if self.changed(receipt, worker):
            worker.flags ^= Flag.SUSPENDED

    @rule(device=devices, person=people, to=people)
    def offer(self, device, person, to):
        worker, receiver = self.workers.get(device.id), self.owners[to]
        error = self.refusal(device, person)
        if error is None and receiver in (worker.owner, worker.offered_to):
            error = "Unchanged"
        sender = self.owners[person]
        if self.attempt(error, lambda: self.service.offerTransfer(device.id, receiver, sender=sender)):
            worker.offered_to = receiver

    @rule(device=devices, person=people)
    def take(self, device, person):
        worker, sender = self.workers.get(device.id), self.owners[person]
        error = None if worker and worker.offered_to == sender else "NotOffered"
        if self.changed(self.attempt(error, lambda: self.service.acceptTransfer(device.id, sender=sender)), worker):
            worker.owner, worker.offered_to = sender, None

    @rule(device=devices)
    def pass_on(self, device):
        """Do a whole transfer: left to chance, offer and acceptance seldom meet."""
        if worker := self.workers.get(device.id):
            person = self.owners.index(worker.owner)
            self.offer(device, person, 1 - person)
            self.take(device, 1 - person)

    @rule(device=st.just(DEVICES[0]), person=people)  # one device alone: it would soon be the end of them all
    def retire(self, device, person):
        worker, sender = self.workers.get(device.id), self.owners[person]
        error = self.refusal(device, person)
        if self.changed(self.attempt(error, lambda: self.service.retire(device.id, sender=sender)), worker):
            worker.flags = (worker.flags & Flag.SUSPENDED) | Flag.RETIRED
            worker.offered_to = None

    @rule()
    def withdraw(self):
        error = None if self.revenue else "NothingToWithdraw"
        self.attempt(error, lambda: self.service.withdraw(self.service_owner, sender=self.service_owner))
        self.revenue = 0

    @invariant()
    def workers_are_as_expected(self):
        for id_, expected in self.workers.items():
            found = self.service.worker(id_)
            assert (found.owner, found.kind, found.flags, found.sequence) == (
                expected.owner,
                expected.kind,
                expected.flags,
                expected.sequence,
            )
            assert self.service.pendingOwner(id_) == (expected.offered_to or ZERO)

    @invariant()
    def money_and_count_are_as_expected(self):
        assert (self.service.balance, self.service.workerCount()) == (self.revenue, len(self.workers))

    @invariant()
    def cooperation_follows_from_both_sides(self):
        for (a, one), (b, other) in combinations(self.workers.items(), 2):
            meet = (one.kind, other.kind) in PARTNERS or (other.kind, one.kind) in PARTNERS
            assert bool(self.service.canCooperate(a, b)) == (meet and one.works() and other.works())


def test_service__any_order_of_actions__behaves_as_the_model(chain, service, service_owner, device_owner, other_owner):
    world = {
        "chain": chain,
        "service": service,
        "service_owner": service_owner,
        "owners": [device_owner, other_owner],
    }
    run_state_machine_as_test(
        type("Machine", (ServiceMachine,), world),
        settings=settings(
            max_examples=6,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
