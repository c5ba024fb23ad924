"""Every state-changing operation of both contracts and the views agents use, once each, in an order that works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bench.gas.chain import Chain, device_key, word
from bench.gas.signing import Signer, point
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3.contract import Contract

FEE: Final = 10**15
FEE_CAP: Final = 10**18
SENSOR: Final = 1
PROCESSOR: Final = 2
GATEWAY: Final = 3
_ALL_RIGHTS: Final = 7
_DAY: Final = 86_400
_SOAK: Final = 600
_SIBLINGS: Final = 10  # a tree of a thousand devices


class ServiceRun:
    """The registry, the owner's control, fees and the configuration."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.service_owner, self.owner, self.operator, self.rotator, self.other, self.last = chain.accounts[:6]
        self.contract: Contract = chain.deploy("Service", self.service_owner, FEE, FEE_CAP)
        self.functions = self.contract.functions
        self.signer = Signer(chain.node.chain_id, self.contract.address)
        self._devices = 0

    def run(self) -> None:
        """Measure every operation."""
        self.enrolments()
        self.switches()
        self.transfers()
        self.keys()
        self.configurations()
        self.fees()

    def enrolments(self) -> None:
        for count in (1, 10, 100, 400):
            self.enrol_batch(f"enrolBatch {count}", count)
        self.enrol("enrol")
        device = self.device()
        self.chain.fund(device.address)
        call = self.functions.enrolSelf(*point(device), SENSOR, self.owner)
        self.chain.send("enrolSelf", call, device.address, FEE)
        self.send("accept", self.functions.accept(device.address))

    def switches(self) -> None:
        worker = self.enrol().address
        self.send("setActive off", self.functions.setActive(worker, False))
        self.send("setActive on", self.functions.setActive(worker, True))
        for count in (10, 400):
            ids = [device.address for device in self.enrol_batch("", count)]
            self.send(f"setActiveBatch {count}", self.functions.setActiveBatch(ids, False))
        year = self.chain.time + 300 * _DAY
        self.send("setOperator new", self.functions.setOperator(self.operator, _ALL_RIGHTS, year))
        self.send("setOperator change", self.functions.setOperator(self.operator, _ALL_RIGHTS, year + _DAY))
        self.send("setActive off by operator", self.functions.setActive(worker, False), self.operator)
        self.send("setSuspended", self.functions.setSuspended(worker, True), self.service_owner)

    def transfers(self) -> None:
        worker = self.enrol().address
        self.send("offerTransfer", self.functions.offerTransfer(worker, self.other))
        self.send("cancelTransfer", self.functions.cancelTransfer(worker))
        self.send("", self.functions.offerTransfer(worker, self.other))
        self.send("acceptTransfer", self.functions.acceptTransfer(worker), self.other)
        recipient, sequence = device_key(-1), 5
        signature = self.signer.take_over(recipient, worker, self.other, sequence)
        call = self.functions.transferSigned(worker, recipient.address, 4_000_000_000, signature)
        self.send("transferSigned", call, self.other)
        self.send("retire", self.functions.retire(self.enrol().address))
        offered = self.enrol().address
        self.send("", self.functions.offerTransfer(offered, self.other))
        self.send("retire with an offer", self.functions.retire(offered))

    def keys(self) -> None:
        worker = self.enrol().address
        self.send("rotateKey first", self.functions.rotateKey(self.new_key(worker, 1)))
        self.send("rotateKey again", self.functions.rotateKey(self.new_key(worker, 2)))
        self.send("rotateKey by operator", self.functions.rotateKey(self.new_key(worker, 3)), self.operator)
        for count in (10, 400):
            batch = [self.new_key(device.address, 1) for device in self.enrol_batch("", count)]
            self.send(f"rotateKeyBatch {count}", self.functions.rotateKeyBatch(batch))

    def configurations(self) -> None:
        for name in ("rotate first", "rotate second", "", "rotate by owner"):
            self.rotate(name, self.service_owner)
        call = self.functions.setRotator(self.rotator)
        self.send("setRotator", call, self.service_owner)
        self.rotate("rotate by rotator", self.rotator)
        call = self.functions.rotateAtOnce(self.configuration(0))
        self.send("rotateAtOnce", call, self.rotator)
        for name, number in (("setBootstrap first", 1), ("setBootstrap", 2)):
            call = self.functions.setBootstrap([_enode(number * relay) for relay in range(1, 5)])
            self.send(name, call, self.service_owner)
        self.send("setPowBounds", self.functions.setPowBounds(10**8, 10**11), self.service_owner)

    def fees(self) -> None:
        owner = self.service_owner
        self.send("announceFee", self.functions.announceFee(2 * FEE), owner)
        self.send("cancelFee", self.functions.cancelFee(), owner)
        self.send("", self.functions.announceFee(2 * FEE), owner)
        self.chain.pass_time(_DAY)
        self.send("applyFee", self.functions.applyFee(), owner)
        self.send("lowerFeeCap", self.functions.lowerFeeCap(FEE_CAP // 2), owner)
        self.send("setPaused", self.functions.setPaused(True), owner)
        self.send("", self.functions.setPaused(False), owner)
        self.send("withdraw", self.functions.withdraw(owner), owner)
        self.send("nameSuccessor", self.functions.nameSuccessor(self.other), owner)
        self.send("transferOwnership", self.functions.transferOwnership(self.last), owner)
        self.send("acceptOwnership", self.functions.acceptOwnership(), self.last)

    def views(self, gateway: str) -> None:
        """Measure what agents ask; `gateway` is enrolled as one."""
        processor = self.enrol(kind=PROCESSOR).address
        self.chain.look("canCooperate", self.functions.canCooperate(processor, gateway))
        self.chain.look("isUsable", self.functions.isUsable(gateway, GATEWAY))
        before = self.rotate("", self.last)
        newest = self.rotate("", self.last)
        self.chain.look("accepts newest", self.functions.accepts(newest))
        self.chain.look("accepts previous", self.functions.accepts(before))

    def enrol(self, name: str = "", kind: int = SENSOR) -> LocalAccount:
        """Enrol another device and return its key."""
        device = self.device()
        call = self.functions.enrol(self.signer.enrolment(device, self.owner, kind))
        self.chain.send(name, call, self.owner, self._fee())
        return device

    def enrol_batch(self, name: str, count: int) -> list[LocalAccount]:
        """Enrol so many at once and return their keys."""
        devices = [self.device() for _ in range(count)]
        batch = [self.signer.enrolment(device, self.owner, SENSOR) for device in devices]
        self.chain.send(name, self.functions.enrolBatch(batch), self.owner, count * self._fee())
        return devices

    def device(self) -> LocalAccount:
        """Return a key nobody has used."""
        self._devices += 1
        return device_key(self._devices)

    def new_key(self, worker: str, epoch: int) -> tuple[Any, ...]:
        """Return a worker's next key with its proof."""
        return self.signer.new_key(self.device(), worker, self.owner, epoch)

    def configuration(self, grace: int) -> tuple[Any, ...]:
        """Return the parameters of another configuration, in force at once."""
        digests = [word(f"{self.chain.time} {one}") for one in ("epoch", "oracle", "gateway")]
        return (0, grace, 2 * 10**8, 60, 131_072, self.other, self.last, *digests)

    def rotate(self, name: str, sender: str) -> bytes:
        """Rotate when the grace of the one before is over; return the digest."""
        self.chain.pass_time(_DAY)
        receipt = self.send(name, self.functions.rotate(self.configuration(3600)), sender)
        event = self.contract.events.ConfigurationRotated().process_log(_log(receipt))
        fields = event["args"]["configuration"]
        digest = self.chain.call(self.functions.digestOf(tuple(fields.values())))
        return bytes.fromhex(digest.removeprefix("0x"))

    def send(self, name: str, call: Any, sender: str | None = None) -> dict[str, Any]:
        """Send a call, from the devices' owner unless another is named."""
        return self.chain.send(name, call, sender or self.owner)

    def _fee(self) -> int:
        return int(self.chain.call(self.functions.fee()), 16)


class ReleasesRun:
    """The line of model releases: two ordinary ones, a roll-back by each role, revocations."""

    def __init__(self, chain: Chain, service: ServiceRun) -> None:
        self.chain = chain
        self.service_owner, self.approver = service.last, chain.accounts[6]
        self.publisher, self.stranger = chain.accounts[7:9]
        self.gateway = service.enrol(kind=GATEWAY).address
        self.contract: Contract = chain.deploy(
            "ModelReleases", self.service_owner, service.contract.address, self.approver
        )
        self.functions = self.contract.functions
        self.channel = word("channel")
        self.sequence = 0

    def run(self) -> None:
        """Measure every operation, and the view a device asks."""
        call = self.functions.setPublisher(self.publisher, self.gateway)
        self.chain.send("setPublisher", call, self.service_owner)
        first = self.release("first", "propose first", {})
        names = ("approve", "openWave first", "pause by approver", "resume", "openWave next", "finalise")
        second = self.release("second", "propose", dict(zip(names, names, strict=True)))
        self.chain.send("rollBack by publisher", self.functions.rollBack(self.channel, first), self.publisher)
        self.chain.send("rollBack by approver", self.functions.rollBack(self.channel, second), self.approver)
        self.sequence += 2
        self.unfinished()
        self.chain.send("revoke", self.functions.revoke(self.channel, first), self.approver)
        self.chain.send("revoke unknown", self.functions.revoke(self.channel, word("unknown")), self.approver)
        self.chain.send("setApprover", self.functions.setApprover(self.stranger), self.service_owner)
        self.chain.send("setPaused (releases)", self.functions.setPaused(True), self.service_owner)

    def release(self, name: str, propose: str, names: dict[str, str]) -> bytes:
        """Take one release through all its states; `names` says under which names to keep the steps."""
        terms = self.propose(propose, word(f"manifest {name}"), word("root"))
        where = (self.channel, self.sequence)
        report = (word("report"), 980, 3, 17)
        steps = (
            ("approve", self.functions.approve(*where, terms[0]), self.approver),
            ("openWave first", self.functions.openWave(*where), self.publisher),
            ("pause by approver", self.functions.pause(*where), self.approver),
            ("resume", self.functions.resume(*where), self.approver),
            ("openWave next", self.functions.openWave(*where), self.publisher),
            ("finalise", self.functions.finalise(self.channel, terms[0], 1, report), self.publisher),
        )
        for step, call, sender in steps:
            self.chain.pass_time(_SOAK)
            self.chain.send(names.get(step, ""), call, sender)
        return bytes(terms[0])

    def unfinished(self) -> None:
        """Roll a release out far enough for a device to be admitted, then have the publisher pause it."""
        manifest = word("manifest third")
        proof, root = wave_proof(manifest)
        terms = self.propose("", manifest, root)
        where = (self.channel, self.sequence)
        self.chain.send("", self.functions.approve(*where, manifest), self.approver)
        self.chain.send("", self.functions.openWave(*where), self.publisher)
        self.chain.look("admits", self.functions.admits(self.channel, terms, proof))
        self.chain.send("pause by publisher", self.functions.pause(*where), self.publisher)

    def propose(self, name: str, manifest: bytes, root: bytes) -> tuple[Any, ...]:
        """Propose a release of two waves."""
        now = self.chain.time
        terms = (manifest, root, word("gate"), now - 5, now + 30 * _DAY, _SOAK, 2)
        self.chain.send(name, self.functions.propose(self.channel, terms), self.publisher)
        self.sequence += 1
        return terms


def anchor(chain: Chain, keeper: str) -> None:
    """Anchor an audit log for the first time and once more."""
    functions = chain.deploy("AuditAnchor").functions
    for number, name in enumerate(("anchor first", "anchor"), start=1):
        chain.send(name, functions.anchor(word("log"), number, word(f"root {number}")), keeper)


def wave_proof(manifest: bytes) -> tuple[tuple[Any, ...], bytes]:
    """Return a device's proof that it belongs to the first wave, and the root it leads to."""
    pseudonym, salt, index = word("pseudonym"), word("salt"), 0b1010011010
    siblings = [word(f"sibling {level}") for level in range(_SIBLINGS)]
    root = keccak(b"\x00" + pseudonym + b"\x01" + manifest + salt)
    for level, sibling in enumerate(siblings):
        pair: Sequence[bytes] = (sibling, root) if index >> level & 1 else (root, sibling)
        root = keccak(b"\x01" + b"".join(pair))
    return (pseudonym, 1, manifest, salt, index, siblings), root


def _enode(number: int) -> str:
    """Return a relay's URL of 164 bytes and more, which fill six words."""
    return f"enode://{2 * word(f'relay {number}').hex()}@relay-{number}.fleet.example:30303"


def _log(receipt: dict[str, Any]) -> Any:
    entry = receipt["logs"][0]
    numbers = {name: int(entry[name], 16) for name in ("blockNumber", "logIndex", "transactionIndex")}
    hashes = {name: bytes.fromhex(entry[name][2:]) for name in ("blockHash", "transactionHash", "data")}
    return {**entry, **numbers, **hashes, "topics": [bytes.fromhex(topic[2:]) for topic in entry["topics"]]}
