"""Any order of what owners, operators, devices and the service do, against a plain model of what comes of it."""

from __future__ import annotations

from dataclasses import astuple
from itertools import combinations

from machines import MOSTLY, ContractMachine, act, run
from mirrors import DAY, FAR, FEE, FEE_CAP, ZERO, Device, Flag, Kind, Right, meet, take_over
from replay import ServiceReplay, Worker

WINDOW = 7 * DAY
UNSETTLED = ((Flag.RETIRED, "WorkerRetired"), (Flag.PENDING, "WorkerPending"))
NUMBERS = (1, 2, 3, 0)
PEOPLE = (0, 1)
RECIPIENTS = ("other", "other", "owner")
CALLERS = ("owner",) * 6 + ("operator", "operator", "other", "service")


class ServiceMachine(ContractMachine):
    """Two owners, an operator of either and the service owner act; the first device has ether of its own."""

    owners: list = None
    operator = service_owner = rich_device = None

    def __init__(self):
        super().__init__()
        self.devices = [Device.of(self.rich_device), *(Device.numbered(number) for number in range(1, 4))]
        self.workers, self.keys, self.offers, self.grants, self.relays = {}, {}, {}, {}, 0
        self.fee, self.cap, self.announced, self.paused, self.revenue = FEE, FEE_CAP, None, False, 0

    def prepare(self):
        """Enrols some workers: an empty registry refuses nearly everything."""
        for number in (1, 2, 3):
            self.enrol(number, number % 2, self.random.choice(list(Kind)), itself=False)

    def some(self, number):
        """One of the workers there are; with zero the first device, whether or not it is one."""
        known = list(self.workers)
        return known[number % len(known)] if number and known else self.devices[0].id

    def flipped(self, id_, flag, flip):
        """What to ask of a switch: the other position, or the one it is in."""
        return bool(self.workers[id_].flags & flag) != flip if id_ in self.workers else flip

    def caller(self, id_, who):
        """The account that plays the part: the worker's owner, the other one, the operator or the service owner."""
        if who in ("operator", "service"):
            return self.operator if who == "operator" else self.service_owner
        first, second = self.owners
        owns = id_ not in self.workers or self.workers[id_].owner == first.address
        return first if owns == (who == "owner") else second

    def refusal(self, id_, caller, right=0):
        """Why the caller cannot do an owner's act to a worker, or None."""
        if (worker := self.workers.get(id_)) is None:
            return "UnknownWorker"
        rights, until = self.grants.get((worker.owner, caller.address), (0, 0))
        entrusted = rights & right and self.time < until
        return None if worker.owner == caller.address or entrusted else "NotWorkerOwner"

    def unsettled(self, id_):
        return next((error for flag, error in UNSETTLED if self.workers[id_].flags & flag), None)

    def settle(self, event, id_, **changes):
        """After an act that came through: the worker's next number in the event, and the worker as it should be."""
        if event is not None:
            worker = self.workers[id_]
            for name, value in {"sequence": worker.sequence + 1, **changes}.items():
                setattr(worker, name, value)
            assert event.sequence == worker.sequence
            assert tuple(self.contract.worker(id_)) == astuple(worker)
        return event is not None

    @act(number=NUMBERS, person=PEOPLE, kind=tuple(Kind), itself=(True, False))
    def enrol(self, number, person, kind, itself):
        device, owner = self.devices[0 if itself else number], self.owners[person]
        error = "EnrolmentPaused" if self.paused else "KeyTaken" if device.id in self.keys else None
        if itself:
            call, flags = ("enrolSelf", *device.point, kind, owner), Flag.PENDING
        else:
            call, flags = ("enrol", device.enrolment(self.contract, owner, kind)), Flag.ACTIVE
        sender = self.rich_device if itself else owner
        if self.attempt(error, *call, sender=sender, value=self.fee):
            self.workers[device.id] = Worker(owner.address, self.time, 0, 1, kind, flags)
            self.keys[device.id] = (device.id, 0)
            self.revenue += self.fee

    @act(2, when=lambda self: self.devices[0].id in self.workers, who=CALLERS)
    def accept(self, who):
        id_ = self.devices[0].id
        caller = self.caller(id_, who)
        error = self.refusal(id_, caller)
        if not error and not self.workers[id_].flags & Flag.PENDING:
            error = "NotPending"
        event = self.attempt(error, "accept", id_, sender=caller)
        if event:
            self.settle(event, id_, flags=self.workers[id_].flags ^ (Flag.PENDING | Flag.ACTIVE))

    @act(3, number=NUMBERS, who=CALLERS, flip=MOSTLY)
    def switch(self, number, who, flip):
        id_ = self.some(number)
        caller, active = self.caller(id_, who), self.flipped(id_, Flag.ACTIVE, flip)
        error = self.refusal(id_, caller, Right.ON if active else Right.OFF) or self.unsettled(id_)
        if not error and bool(self.workers[id_].flags & Flag.ACTIVE) == active:
            error = "Unchanged"
        event = self.attempt(error, "setActive", id_, active, sender=caller)
        if event:
            self.settle(event, id_, flags=self.workers[id_].flags ^ Flag.ACTIVE)

    @act(number=NUMBERS, flip=MOSTLY)
    def suspend(self, number, flip):
        id_ = self.some(number)
        suspended = self.flipped(id_, Flag.SUSPENDED, flip)
        flags = self.workers[id_].flags if id_ in self.workers else 0
        error = None if id_ in self.workers else "UnknownWorker"
        if flags & Flag.RETIRED:
            error = "WorkerRetired"
        elif not error and bool(flags & Flag.SUSPENDED) == suspended:
            error = "Unchanged"
        event = self.attempt(error, "setSuspended", id_, suspended, sender=self.service_owner)
        self.settle(event, id_, flags=flags ^ Flag.SUSPENDED)

    @act(3, number=NUMBERS, key=(None, None, 0, 1, 2, 3), who=CALLERS)
    def rotate_key(self, number, key, who):
        """With a new key, or with one that somebody may have had."""
        id_, key = self.some(number), Device.numbered(len(self.keys) + 10) if key is None else self.devices[key]
        caller = self.caller(id_, who)
        error = self.refusal(id_, caller, Right.KEYS) or self.unsettled(id_)
        error = error or ("KeyTaken" if key.id in self.keys else None)
        worker = self.workers.get(id_, Worker(ZERO, 0, 0, 0, 0, 0))
        proof = key.new_key(self.contract, id_, worker.owner, worker.epoch + 1)
        if self.settle(self.attempt(error, "rotateKey", proof, sender=caller), id_, epoch=worker.epoch + 1):
            self.keys[key.id] = (id_, worker.epoch)

    @act(2, number=NUMBERS, who=CALLERS, to=RECIPIENTS)
    def offer(self, number, who, to):
        id_ = self.some(number)
        caller, to = self.caller(id_, who), self.caller(id_, to).address
        error = self.refusal(id_, caller) or self.unsettled(id_)
        if not error and to in (caller.address, self.offers.get(id_)):
            error = "Unchanged"
        if self.settle(self.attempt(error, "offerTransfer", id_, to, sender=caller), id_):
            self.offers[id_] = to

    @act(when=lambda self: self.offers, who=CALLERS)
    def cancel_offer(self, who):
        id_ = next(iter(self.offers))
        caller = self.caller(id_, who)
        error = self.refusal(id_, caller)
        if self.settle(self.attempt(error, "cancelTransfer", id_, sender=caller), id_):
            del self.offers[id_]

    @act(4, when=lambda self: self.offers, who=("other", "other", "other", "owner", "operator"))
    def take(self, who):
        id_ = next(iter(self.offers))
        caller = self.caller(id_, who)
        error = None if self.offers.get(id_) == caller.address else "NotOffered"
        if self.settle(self.attempt(error, "acceptTransfer", id_, sender=caller), id_, owner=caller.address):
            del self.offers[id_]

    @act(2, number=NUMBERS, who=CALLERS, to=RECIPIENTS)
    def pass_on(self, number, who, to):
        id_ = self.some(number)
        caller, to = self.caller(id_, who), self.caller(id_, to)
        error = self.refusal(id_, caller) or self.unsettled(id_) or ("Unchanged" if to == caller else None)
        sequence = self.workers[id_].sequence if id_ in self.workers else 0
        agreed = take_over(to, self.contract, id_, caller, sequence)
        event = self.attempt(error, "transferSigned", id_, to, FAR, agreed, sender=caller)
        if self.settle(event, id_, owner=to.address):
            self.offers.pop(id_, None)

    @act(when=lambda self: self.devices[3].id in self.workers, who=CALLERS)
    def retire(self, who):
        """Of one device alone: it would soon be the end of them all."""
        id_ = self.devices[3].id
        caller = self.caller(id_, who)
        error = self.refusal(id_, caller)
        flags = self.workers[id_].flags if id_ in self.workers else 0
        error = error or ("WorkerRetired" if flags & Flag.RETIRED else None)
        event = self.attempt(error, "retire", id_, sender=caller)
        if self.settle(event, id_, flags=flags & Flag.SUSPENDED | Flag.RETIRED):
            self.offers.pop(id_, None)

    @act(2, person=PEOPLE, rights=range(8))
    def entrust(self, person, rights):
        owner, until = self.owners[person], self.time + DAY if rights else 0
        key = (owner.address, self.operator.address)
        error = "Unchanged" if (rights, until) == self.grants.get(key, (0, 0)) else None
        if self.attempt(error, "setOperator", self.operator, rights, until, sender=owner):
            self.grants[key] = (rights, until)

    @act(what=("announce", "apply", "cancel"), fee=[tenth * FEE for tenth in range(12)])
    def change_fee(self, what, fee):
        error, arguments = getattr(self, f"refusal_to_{what}")(fee), [fee] if what == "announce" else []
        if self.attempt(error, f"{what}Fee", *arguments, sender=self.service_owner):
            self.fee = self.announced[0] if what == "apply" else self.fee
            self.announced = (fee, self.time + DAY) if what == "announce" else None

    def refusal_to_announce(self, fee):
        return "Unchanged" if fee == self.fee else "FeeAboveCap" if fee > self.cap else None

    def refusal_to_cancel(self, _fee):
        return None if self.announced else "NoFeeAnnounced"

    def refusal_to_apply(self, _fee):
        if not self.announced:
            return "NoFeeAnnounced"
        fee, opens = self.announced
        inside = opens <= self.time + 1 <= opens + WINDOW
        return "FeeAboveCap" if inside and fee > self.cap else None if inside else "OutsideFeeWindow"

    @act(cap=range(FEE, 11 * FEE + 1, FEE))
    def lower_cap(self, cap):
        error = "Unchanged" if cap == self.cap else None if self.fee <= cap < self.cap else "BadFeeCap"
        if self.attempt(error, "lowerFeeCap", cap, sender=self.service_owner):
            self.cap = cap

    @act(flip=MOSTLY)
    def pause(self, flip):
        paused = self.paused != flip
        error = "Unchanged" if paused == self.paused else None
        if self.attempt(error, "setPaused", paused, sender=self.service_owner):
            self.paused = paused

    @act(relays=range(3))
    def name_relays(self, relays):
        enodes = [f"enode://{number:0128x}@relay:30303" for number in range(relays)]
        if self.attempt(
            "Unchanged" if relays == self.relays else None, "setBootstrap", enodes, sender=self.service_owner
        ):
            self.relays = relays

    @act(seconds=(3600, DAY, 8 * DAY))
    def wait_and_withdraw(self, seconds):
        self.time += seconds
        error = None if self.revenue else "NothingToWithdraw"
        self.attempt(error, "withdraw", self.service_owner, sender=self.service_owner)
        self.revenue = 0

    def check(self):
        replay = ServiceReplay(self.contract)
        assert (replay.workers, replay.keys) == (self.workers, self.keys)
        assert (replay.offers, replay.grants) == (self.offers, self.grants)
        announced = self.announced or (0, 0)
        fees = {"fee": self.fee, "cap": self.cap, "announced": announced, "paused": self.paused}
        assert (replay.fees, self.contract.balance) == (fees, self.revenue)
        replay.check()
        for (a, one), (b, other) in combinations(self.workers.items(), 2):
            expected = meet(one.kind, other.kind) and one.flags == other.flags == Flag.ACTIVE
            assert self.contract.canCooperate(a, b) == self.contract.canCooperate(b, a) == expected


def test_service__any_order_of_acts__behaves_as_the_model(
    chain, service, service_owner, device_owner, other_owner, operator, rich_device
):
    roles = {"owners": [device_owner, other_owner], "operator": operator, "service_owner": service_owner}
    run(ServiceMachine, 8, 35, chain=chain, contract=service, rich_device=rich_device, **roles)
