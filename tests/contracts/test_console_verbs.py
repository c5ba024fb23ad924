from __future__ import annotations

import json

import pytest
from ape import convert
from eth_utils import keccak
from IPython.core.completer import IPCompleter
from mirrors import DAY, FAR, FEE, MAX_BATCH, ZERO, Device, Flag, Kind, Right, typed

from quietfleet.chain.channel import Report, Terms
from quietfleet.chain.consent import Consent
from quietfleet.chain.new_key import KeyProof
from quietfleet.chain.types import Kind as OffchainKind
from quietfleet.console import (
    SENTENCES,
    Absent,
    AddressBook,
    Epoch,
    Fleet,
    Outbox,
    ReleaseVerbs,
    Roster,
    ServiceVerbs,
    Signers,
    channel_hash,
    open_desk,
    sentence,
)
from quietfleet.errors import (
    AddressError,
    BookError,
    BootstrapUnproven,
    CallRefused,
    ConfigurationUnproven,
    ConsentInvalid,
    DeploymentError,
    EpochError,
    NoSigner,
    NothingNamed,
    ProofInvalid,
    TermsError,
    UnknownTag,
    UnknownVerb,
    UnknownWorkerName,
)

EPOCH = {
    "version": 1,
    "oracle": "0x" + "0a" * 20,
    "gateway": ZERO,
    "epoch_key_commitment": "0x" + "01" * 32,
    "oracle_card_digest": "0x" + "02" * 32,
    "gateway_card_digest": "0x" + "00" * 32,
}
TERMS = Terms(b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, not_before=0, expires_at=FAR, soak=0, wave_count=1)
MANIFEST = "0x" + "01" * 32


@pytest.fixture
def book(tmp_path):
    return AddressBook(tmp_path / "book.json")


@pytest.fixture
def fleet_of(service, book):
    """The fleet as somebody with these accounts sees it."""

    def open_it(*accounts, rehearse=False):
        return Fleet(service, Outbox(Signers(lambda: accounts), rehearse=rehearse), book, Roster(service, book, 0))

    return open_it


@pytest.fixture
def verbs_of(service, book):
    def open_it(*accounts, rehearse=False):
        return ServiceVerbs(service, Outbox(Signers(lambda: accounts), rehearse=rehearse), Roster(service, book, 0))

    return open_it


@pytest.fixture
def verbs(verbs_of, service_owner):
    return verbs_of(service_owner)


@pytest.fixture
def release_verbs(releases, service_owner, publisher, approver):
    return ReleaseVerbs(releases, Outbox(Signers(lambda: [publisher, approver, service_owner])), 0)


@pytest.fixture
def consent_of(service, device_owner):
    def sign(device, deadline=FAR, owner=device_owner):
        signature = device.consent(service, owner, Kind.SENSOR, deadline)
        return Consent(b"".join(device.point), OffchainKind.SENSOR, owner.address, deadline, signature)

    return sign


@pytest.fixture
def proof_of(service, device_owner):
    """What `quietfleet prepare-key` writes for a worker."""

    def sign(worker, device, epoch=1):
        message = typed(service, "RotateKey", worker, device_owner, epoch, FAR)
        signature = bytes(device.key.sign_message(message).signature).hex()
        return KeyProof(worker, device_owner.address, epoch, b"".join(device.point).hex(), FAR, signature)

    return sign


def flags(service, *ids):
    return [Flag(service.worker(id_).flags) for id_ in ids]


def functions(verbs):
    return [call.function for call in verbs._outbox.calls]


# enrolment


def test_enrol__with_a_consent__pays_the_fee_and_remembers_the_name(fleet_of, service, consent_of, device_owner, book):
    new = Device.numbered(50)
    view = fleet_of(device_owner).enrol(consent_of(new), name="porch")
    assert "porch" in str(view)
    assert (service.worker(new.id).owner, service.balance, book.id_of("porch")) == (device_owner, FEE, new.id)


def test_enrol__a_folder_of_two_owners__sends_one_batch_for_each(
    fleet_of, service, consent_of, device_owner, other_owner, tmp_path
):
    devices = [Device.numbered(50 + number) for number in range(4)]
    for number, (device, owner) in enumerate(
        zip(devices, [device_owner, device_owner, other_owner, other_owner], strict=True)
    ):
        (tmp_path / f"{number}.json").write_bytes(consent_of(device, owner=owner).to_json())
    fleet = fleet_of(device_owner, other_owner)
    fleet.enrol(tmp_path)
    assert functions(fleet) == ["enrolBatch", "enrolBatch"]
    assert [service.worker(device.id).owner for device in devices] == [device_owner] * 2 + [other_owner] * 2
    assert service.balance == 4 * FEE


def test_enrol__with_an_expired_consent__sends_nothing(fleet_of, consent_of, device, device_owner):
    before = device_owner.nonce
    with pytest.raises(ConsentInvalid):
        fleet_of(device_owner).enrol(consent_of(device()), consent_of(device(), deadline=1))
    assert device_owner.nonce == before


def test_enrol__a_file_that_is_none__is_named(fleet_of, device_owner, tmp_path):
    (tmp_path / "porch.json").write_text("{}")
    with pytest.raises(ConsentInvalid, match=r"porch\.json"):
        fleet_of(device_owner).enrol(tmp_path)


def test_enrol__one_name_for_two__is_refused(fleet_of, consent_of, device, device_owner):
    with pytest.raises(ConsentInvalid, match="one name"):
        fleet_of(device_owner).enrol(consent_of(device()), consent_of(device()), name="porch")


# switching


def test_disable__workers_of_two_owners__sends_one_call_for_each(
    fleet_of, service, enrol_worker, device_owner, other_owner
):
    ids = [enrol_worker(), enrol_worker(), enrol_worker(owner=other_owner)]
    fleet = fleet_of(device_owner, other_owner)
    fleet.disable(*ids)
    assert flags(service, *ids) == [Flag(0)] * 3
    assert functions(fleet) == ["setActiveBatch", "setActive"]
    fleet.enable(*ids[1:])
    assert flags(service, *ids) == [Flag(0), Flag.ACTIVE, Flag.ACTIVE]


def test_disable__more_than_a_batch_holds__sends_several(fleet_of, device_owner, monkeypatch, enrol_worker):
    assert Fleet._send_all.__globals__["MAX_BATCH"] == MAX_BATCH
    monkeypatch.setitem(Fleet._send_all.__globals__, "MAX_BATCH", 2)
    fleet = fleet_of(device_owner)
    fleet.disable(*(enrol_worker() for _ in range(5)))
    assert [len(call.arguments.get("ids", "1")) for call in fleet._outbox.calls] == [2, 2, 1]


def test_disable__one_is_not_ours__switches_none(fleet_of, service, enrol_worker, device_owner, other_owner):
    ids = [enrol_worker(), enrol_worker(owner=other_owner)]
    with pytest.raises(NoSigner, match=other_owner.address):
        fleet_of(device_owner).disable(*ids)
    assert flags(service, *ids) == [Flag.ACTIVE] * 2


def test_disable__by_tag_and_name__switches_each_once(fleet_of, service, enrol_worker, device_owner, other_owner):
    porch, hall, theirs, other = enrol_worker(), enrol_worker(), enrol_worker(owner=other_owner), enrol_worker()
    fleet = fleet_of(device_owner, other_owner)
    fleet.name(porch, "porch")
    fleet.tag("porch", "garden", "north")
    for id_ in (hall, theirs):
        fleet.tag(id_, "garden")
    fleet.disable("porch", tag="garden")
    assert flags(service, porch, hall, theirs, other) == [Flag(0)] * 3 + [Flag.ACTIVE]
    assert functions(fleet) == ["setActiveBatch", "setActive"]
    fleet.untag(hall, "garden")
    fleet.enable(tag="garden")
    assert flags(service, porch, hall, theirs) == [Flag.ACTIVE, Flag(0), Flag.ACTIVE]


def test_disable__unknown_tag_or_nothing_named__says_so_and_switches_none(
    fleet_of, service, enrol_worker, device_owner
):
    worker, fleet = enrol_worker(), fleet_of(device_owner)
    fleet.tag(worker, "garden")
    with pytest.raises(UnknownTag, match="did you mean garden"):
        fleet.disable(tag="gardn")
    for nothing in (fleet.disable, fleet.enable):
        with pytest.raises(NothingNamed):
            nothing()
    assert flags(service, worker) == [Flag.ACTIVE]


def test_tag__a_worker__shows_in_status_and_stays_in_the_book(fleet_of, service, enrol_worker, device_owner, tmp_path):
    worker, fleet, before = enrol_worker(), fleet_of(device_owner), device_owner.nonce
    assert "garden, north" in str(fleet.tag(worker, "north", "garden"))
    assert [row.tags for row in fleet.rows() if row.id == worker] == [("garden", "north")]
    with pytest.raises(UnknownTag, match="carries garden, north, and not roof"):
        fleet.untag(worker, "roof")
    assert "garden" not in str(fleet.untag(worker))
    with pytest.raises(NothingNamed):
        fleet.tag(worker)
    with pytest.raises(UnknownWorkerName):
        fleet.tag("0x" + "77" * 20, "garden")
    assert device_owner.nonce == before
    assert "garden" not in (tmp_path / "book.json").read_text()


def test_disable__already_off__sends_nothing(fleet_of, enrol_worker, device_owner):
    worker, fleet = enrol_worker(), fleet_of(device_owner)
    fleet.disable(worker)
    before = device_owner.nonce
    fleet.disable(worker)
    assert device_owner.nonce == before


@pytest.mark.parametrize("name", ["nobody", "0x" + "77" * 20])
def test_disable__unknown__says_so(name, fleet_of, device_owner):
    with pytest.raises(UnknownWorkerName, match=name):
        fleet_of(device_owner).disable(name)


def test_disable__by_an_operator__needs_the_right(fleet_of, service, enrol_worker, device_owner, operator):
    worker = enrol_worker()
    with pytest.raises(NoSigner):
        fleet_of(operator).disable(worker)
    fleet_of(device_owner).set_operator(operator.address, days=1)
    fleet_of(operator).disable(worker)
    assert flags(service, worker) == [Flag(0)]
    with pytest.raises(NoSigner):
        fleet_of(operator).enable(worker)


# keys, owners, operators


def test_rotate_key__with_a_proof_file__replaces_the_key(
    fleet_of, service, enrol_worker, proof_of, device_owner, tmp_path
):
    worker, new, path = enrol_worker(), Device.numbered(60), tmp_path / "key.json"
    path.write_bytes(proof_of(worker, new).to_json())
    fleet_of(device_owner).rotate_key(path)
    assert service.workerOf(new.id) == (worker, 1, True)


def test_rotate_key__proofs_of_two_workers__sends_one_batch(fleet_of, service, enrol_worker, proof_of, device_owner):
    pairs = [(enrol_worker(), Device.numbered(60 + number)) for number in range(2)]
    fleet = fleet_of(device_owner)
    fleet.rotate_key(*(proof_of(worker, new) for worker, new in pairs))
    assert functions(fleet) == ["rotateKeyBatch"]
    assert [service.worker(worker).epoch for worker, _ in pairs] == [1, 1]


def test_rotate_key__for_another_epoch__sends_nothing(fleet_of, enrol_worker, proof_of, device_owner):
    worker = enrol_worker()
    before = device_owner.nonce
    with pytest.raises(ProofInvalid, match="the next one is 1"):
        fleet_of(device_owner).rotate_key(proof_of(worker, Device.numbered(60), epoch=2))
    assert device_owner.nonce == before


def test_rotate_key__from_a_broken_file__names_it(fleet_of, device_owner, tmp_path):
    path = tmp_path / "key.json"
    path.write_text("{}")
    with pytest.raises(ProofInvalid, match=r"key\.json"):
        fleet_of(device_owner).rotate_key(path)


def test_offer_and_take__a_worker__changes_its_owner(fleet_of, service, enrol_worker, device_owner, other_owner):
    worker = enrol_worker()
    fleet_of(device_owner).offer(worker, other_owner.address)
    fleet_of(other_owner).take(worker)
    assert service.worker(worker).owner == other_owner


def test_withdraw_offer__a_worker__stays(fleet_of, service, enrol_worker, device_owner, other_owner):
    worker = enrol_worker()
    fleet_of(device_owner).offer(worker, other_owner.address)
    fleet_of(device_owner).withdraw_offer(worker)
    assert service.pendingOwner(worker) == ZERO
    with pytest.raises(NoSigner):
        fleet_of(other_owner).take(worker)


def test_accept_and_retire__a_pending_worker__is_ours_and_then_gone(fleet_of, service, pending_worker, device_owner):
    fleet_of(device_owner).accept(pending_worker)
    assert flags(service, pending_worker) == [Flag.ACTIVE]
    fleet_of(device_owner).retire(pending_worker)
    assert flags(service, pending_worker) == [Flag.RETIRED]


def test_operator__set_and_removed__has_rights_in_between(fleet_of, service, device_owner, operator):
    fleet = fleet_of(device_owner)
    assert "switch off, replace keys" in str(fleet.set_operator(operator.address, days=1, keys=True))
    assert service.operatorRights(device_owner, operator) == Right.OFF | Right.KEYS
    assert "none" in str(fleet.remove_operator(operator.address))
    assert service.operatorRights(device_owner, operator) == 0


def test_operator__several_accounts_at_hand__asks_whose(fleet_of, service, device_owner, other_owner, operator):
    fleet = fleet_of(device_owner, other_owner)
    with pytest.raises(NoSigner, match="2 accounts"):
        fleet.set_operator(operator.address, days=1)
    fleet.set_operator(operator.address, days=1, owner=other_owner.address)
    assert service.operatorRights(other_owner, operator) == Right.OFF


def test_status__every_state__shows_it(
    fleet_of, verbs, enrol_worker, pending_worker, retired_worker, device_owner, book
):
    on, off, suspended = enrol_worker(Kind.GATEWAY), enrol_worker(), enrol_worker()
    fleet = fleet_of(device_owner)
    fleet.name(off, "porch")
    fleet.disable("porch")
    verbs.suspend(suspended)
    rows = {row.id: (row.name, row.kind, row.active, row.suspended, row.pending, row.retired) for row in fleet.rows()}
    assert rows == {
        on: ("", "gateway", True, False, False, False),
        off: ("porch", "sensor", False, False, False, False),
        suspended: ("", "sensor", True, True, False, False),
        pending_worker: ("", "sensor", False, False, True, False),
        retired_worker: ("", "sensor", False, False, False, True),
    }
    assert all(part in str(fleet.status()) for part in (on, off, "porch", "pending", "retired", device_owner.address))


# service


def test_rotate__the_next_epoch__sets_it_proven_by_its_digest(verbs, service):
    verbs.rotate(Epoch(**EPOCH), lead=100, grace=5, min_pow=0.5)
    found = verbs.configuration_facts()
    assert (found["version"], found["grace"], found["minPow"], found["in_force"]) == (1, 5, 500_000_000, False)
    assert found["digest"] == "0x" + service.configuration().digest.hex().removeprefix("0x")


def test_rotate__from_a_file__reads_it(verbs, service, tmp_path):
    path = tmp_path / "epoch.json"
    path.write_text(json.dumps(EPOCH))
    verbs.rotate(path)
    assert service.configuration().version == 1


def test_rotate__keeping_the_keys__changes_what_is_named_alone(verbs, chain):
    verbs.rotate(Epoch(**EPOCH), grace=0, max_ttl=30)
    first = verbs.configuration_facts()
    verbs.rotate(keep_keys=True, min_pow=0.5)
    second = verbs.configuration_facts()
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"version", "activeFrom", "grace", "minPow", "previousBlock", "digest", "previousVersion"}
    assert (second["minPow"], second["maxTtl"]) == (500_000_000, 30)


def test_rotate__at_once__needs_no_patience(verbs, service):
    verbs.rotate(Epoch(**EPOCH))
    verbs.rotate(Epoch(**EPOCH | {"version": 2}), grace=500)
    with pytest.raises(CallRefused, match="at once in an emergency"):
        verbs.rotate(keep_keys=True)
    verbs.rotate(keep_keys=True, at_once=True)
    assert (service.configuration().version, service.configuration().grace) == (3, 0)


@pytest.mark.parametrize("version", [0, 2])
def test_rotate__not_the_next_epoch__is_refused(version, verbs):
    with pytest.raises(EpochError, match="the chain is at 0"):
        verbs.rotate(Epoch(**EPOCH | {"version": version}))


def test_rotate__neither_or_both_or_nothing_to_keep__is_refused(verbs):
    with pytest.raises(EpochError, match="either"):
        verbs.rotate()
    with pytest.raises(EpochError, match="no configuration yet"):
        verbs.rotate(keep_keys=True)
    verbs.rotate(Epoch(**EPOCH))
    with pytest.raises(EpochError, match="either"):
        verbs.rotate(Epoch(**EPOCH), keep_keys=True)


def test_configuration__that_its_digest_does_not_confirm__is_not_believed(verbs, service, monkeypatch):
    verbs.rotate(Epoch(**EPOCH))
    forged = type("Forged", (), {"digestOf": lambda *_: b"", "__getattr__": lambda _, name: getattr(service, name)})
    monkeypatch.setattr(verbs, "_service", forged())
    with pytest.raises(ConfigurationUnproven):
        verbs.configuration()


def test_rotate__from_a_broken_file__says_so(verbs, tmp_path):
    path = tmp_path / "epoch.json"
    path.write_text("{}")
    with pytest.raises(EpochError, match=r"epoch\.json"):
        verbs.rotate(path)


def test_suspend_and_resume__a_worker__sets_its_flag(verbs, service, enrol_worker):
    worker = enrol_worker()
    verbs.suspend(worker)
    assert flags(service, worker) == [Flag.ACTIVE | Flag.SUSPENDED]
    verbs.resume(worker)
    assert flags(service, worker) == [Flag.ACTIVE]


def test_withdraw__without_address__pays_the_owner(verbs, service, enrol_worker):
    enrol_worker()
    verbs.withdraw()
    assert service.balance == 0


def test_fee__announced_and_applied__is_in_force(verbs, chain):
    verbs.announce_fee(2 * FEE)
    assert verbs.facts()["announced_fee"] == 2 * FEE
    with pytest.raises(CallRefused, match="wait for that"):
        verbs.apply_fee()
    chain.pending_timestamp += DAY
    verbs.apply_fee()
    assert (verbs.facts()["fee"], verbs.facts()["announced_fee"]) == (2 * FEE, None)


def test_fee__applied_early_with_an_apostrophe_in_the_revert__says_what_to_do(verbs, chain):
    """The time at which it opens ends in 0x27, an apostrophe, which changes how Python shows the revert."""
    chain.pending_timestamp = (chain.pending_timestamp // 256 + 2) * 256 + (ord("'") - DAY) % 256
    verbs.announce_fee(2 * FEE)
    with pytest.raises(CallRefused, match="wait for that"):
        verbs.apply_fee()


def test_fee__announcement_cancelled_and_cap_lowered__shows(verbs):
    verbs.announce_fee(2 * FEE)
    verbs.cancel_fee()
    verbs.lower_fee_cap(3 * FEE)
    assert (verbs.facts()["announced_fee"], verbs.facts()["fee_cap"]) == (None, 3 * FEE)


def test_service__each_other_setting__is_shown(verbs, verbs_of, stranger):
    verbs.pause_enrolments()
    verbs.set_rotator(stranger.address)
    verbs.set_pow_bounds(0.5, 2)
    verbs.name_successor(stranger.address)
    verbs.offer_ownership(stranger.address)
    facts = verbs.facts()
    shown = ("enrolments_paused", "rotator", "pow_bounds", "successor", "offered_to")
    assert [facts[name] for name in shown] == [True, stranger, [0.5, 2], stranger, stranger]
    verbs.resume_enrolments()
    verbs_of(stranger).take_ownership()
    assert (verbs.facts()["owner"], verbs.facts()["enrolments_paused"]) == (stranger, False)


def test_bootstrap__named_and_cleared__is_shown_as_its_event_proves_it(verbs):
    first, second = (f"enode://{byte * 64}@relay.example:30303" for byte in ("ab", "cd"))
    assert verbs.facts()["bootstrap"] == []
    shown = str(verbs.set_bootstrap(first, second.replace("cd", "CD")))
    assert f"0x{keccak(hexstr=64 * 'ab')[12:].hex()} at relay.example:30303" in shown.lower()
    assert verbs.facts()["bootstrap"] == [first, second]
    assert verbs.clear_bootstrap().data["bootstrap"] == []
    with pytest.raises(CallRefused, match="so already"):
        verbs.clear_bootstrap()


def test_set_bootstrap__one_is_no_url__sends_nothing(verbs, service_owner):
    before = service_owner.nonce
    with pytest.raises(AddressError, match="relay:30303"):
        verbs.set_bootstrap(f"enode://{64 * 'ab'}@relay.example:30303", "relay:30303")
    assert service_owner.nonce == before


def test_bootstrap__that_its_digest_does_not_confirm__is_not_believed(verbs, service, monkeypatch):
    verbs.set_bootstrap(f"enode://{64 * 'ab'}@relay.example:30303")
    anchor = type("Anchor", (), {"version": 1, "newestBlock": service.bootstrap()[1], "digest": bytes(22)})
    stand_in = type(
        "Forged", (), {"bootstrap": lambda _: anchor, "__getattr__": lambda _, name: getattr(service, name)}
    )
    monkeypatch.setattr(verbs, "_service", stand_in())
    with pytest.raises(BootstrapUnproven):
        verbs.status()


# releases


def test_release__from_proposal_to_roll_back__goes_its_way(release_verbs):
    release_verbs.propose("weather", TERMS)
    release_verbs.approve("weather", 1, MANIFEST)
    release_verbs.open("weather")
    release_verbs.pause("weather")
    release_verbs.resume("weather")
    release_verbs.finalise("weather", MANIFEST, Report(3, 0, 0))
    assert release_verbs.head("weather")["state"] == "completed"
    release_verbs.propose(
        "weather", Terms(b"\x09" * 32, *[b"\x02" * 32] * 2, not_before=0, expires_at=FAR, soak=0, wave_count=1)
    )
    release_verbs.roll_back("weather", MANIFEST)
    assert (release_verbs.head("weather")["sequence"], release_verbs.channels()) == (
        3,
        ["0x" + channel_hash("weather").hex()],
    )
    assert [row["sequence"] for row in release_verbs.history("weather").data] == [3, 2]


def test_release__terms_and_report_from_files__are_read(release_verbs, tmp_path):
    terms, report = tmp_path / "terms.json", tmp_path / "report.json"
    hashes = {"manifest_hash": MANIFEST, "group_root": "0x" + "02" * 32, "gate_hash": "0x" + "03" * 32}
    terms.write_text(json.dumps(hashes | {"not_before": 0, "expires_at": FAR, "soak": 0, "wave_count": 1}))
    report.write_text(json.dumps({"succeeded": 1, "failed": 2, "silent": 3}))
    release_verbs.propose("weather", terms)
    release_verbs.approve("weather", 1, MANIFEST)
    release_verbs.open("weather", 1)
    release_verbs.finalise("weather", MANIFEST, report, floor=1)
    assert (release_verbs.head("weather")["state"], release_verbs.head("weather")["floor"]) == ("completed", 1)


def test_release__broken_terms__name_the_file(release_verbs, tmp_path):
    path = tmp_path / "terms.json"
    path.write_text('{"manifest_hash": "zz"}')
    with pytest.raises(TermsError, match=r"terms\.json"):
        release_verbs.propose("weather", path)


def test_revoke__a_manifest_never_proposed__is_banned(release_verbs):
    release_verbs.revoke("weather", MANIFEST)
    assert release_verbs.is_revoked("weather", MANIFEST)
    assert release_verbs.revoked() == [("0x" + channel_hash("weather").hex(), MANIFEST)]
    with pytest.raises(CallRefused, match="propose another one"):
        release_verbs.propose("weather", TERMS)


def test_release__settings__are_shown(release_verbs, stranger, gateway, publisher):
    release_verbs.set_publisher(stranger.address, gateway)
    release_verbs.remove_publisher(publisher.address)
    release_verbs.set_approver(stranger.address)
    release_verbs.pause_proposals()
    facts = release_verbs.facts()
    assert (facts["publishers"], facts["approver"], facts["paused"]) == ({stranger.address: gateway}, stranger, True)
    release_verbs.resume_proposals()
    release_verbs.offer_ownership(stranger.address)
    assert (release_verbs.facts()["paused"], release_verbs.facts()["offered_to"]) == (False, stranger)


# rehearsal


def test_rehearsal__by_the_owner__shows_arguments_and_gas_and_sends_nothing(fleet_of, enrol_worker, device_owner):
    worker, fleet = enrol_worker(), fleet_of(device_owner, rehearse=True)
    before = device_owner.nonce
    fleet.disable(worker)
    (call,) = fleet._outbox.calls
    assert (call.arguments, call.sender, call.at_hand, call.transaction) == (
        {"id": worker, "active": False},
        device_owner,
        True,
        "",
    )
    assert 21_000 < call.gas < 60_000
    assert device_owner.nonce == before


def test_rehearsal__without_the_account__says_whose_it_is(fleet_of, service, enrol_worker, device_owner):
    worker, fleet = enrol_worker(), fleet_of(rehearse=True)
    fleet.disable(worker)
    (call,) = fleet._outbox.calls
    assert (call.sender, call.at_hand, call.data) == (
        device_owner,
        False,
        "0x" + service.setActive.encode_input(worker, False).hex().removeprefix("0x"),
    )
    assert "not at hand" in str(call)


def test_rehearsal__the_call_would_revert__says_why(verbs_of, service_owner):
    with pytest.raises(CallRefused, match="wait for an enrolment"):
        verbs_of(service_owner, rehearse=True).withdraw()


def test_rehearsal__structs__have_their_fields_named(fleet_of, consent_of, device, device_owner):
    fleet, new = fleet_of(device_owner, rehearse=True), device()
    fleet.enrol(consent_of(new))
    given = fleet._outbox.calls[0].arguments["device"]
    assert (given["x"], given["kind"]) == ("0x" + new.point[0].hex(), Kind.SENSOR)


# mistakes


def test_refused__by_the_contract__is_one_sentence(verbs, service_owner):
    with pytest.raises(CallRefused) as caught:
        verbs.withdraw()
    assert str(caught.value) == SENTENCES["NothingToWithdraw"] == caught.value._render_traceback_()[0]


def test_sentences__of_every_error_of_both_contracts__say_what_to_do(service, releases):
    errors = {abi.name: abi for contract in (service, releases) for abi in contract.contract_type.errors}
    assert errors.keys() == SENTENCES.keys()
    for name, abi in errors.items():
        said = sentence(name, {one.name: convert(ZERO, str) if one.type == "address" else 1 for one in abi.inputs})
        assert said.endswith(".")
        assert ":" in said
        assert "{" not in said


def test_sentence__with_times_and_proof_of_work__is_readable():
    assert "until 2096-10-02 07:06:40 UTC" in sentence("SignatureExpired", {"deadline": FAR, "time": 0})
    assert "between 0.5 and 2" in sentence("BadMinPow", {"minPow": 1, "least": 5 * 10**8, "most": 2 * 10**9})
    assert "second 1" in sentence("GraceRunning", {"until": 10**40})
    assert "rolling out" in sentence("WrongState", {"channel": b"", "state": 3})


def test_sentence__of_an_unknown_error__names_it_with_its_arguments():
    assert sentence("Odd", {"x": 1}) == "The contract refuses with Odd(x=1)."


def test_verb__misspelt__names_the_nearest(fleet_of, verbs):
    with pytest.raises(UnknownVerb, match=r"did you mean fleet\.disable"):
        fleet_of().disabel("porch")
    with pytest.raises(UnknownVerb, match=r"there are .*withdraw"):
        verbs.xyz()
    assert not hasattr(verbs, "xyz")


@pytest.mark.parametrize(("typed_so_far", "offered"), [("fleet.dis", "disable"), ("fleet.rotate_k", "rotate_key")])
def test_completion__after_a_dot__offers_verbs_alone(typed_so_far, offered, fleet_of):
    completer = IPCompleter(namespace={"fleet": fleet_of()})
    assert completer.attr_matches(typed_so_far) == [f"fleet.{offered}"]
    assert not any(name.startswith("_") for name in dir(fleet_of()))


def test_repr__of_each__names_its_verbs(fleet_of, verbs, release_verbs, service):
    for shown, verb in ((fleet_of(), "disable"), (verbs, "rotate"), (release_verbs, "roll_back")):
        assert verb in repr(shown)
    assert service.address in repr(fleet_of())


def test_absent__whatever_is_said__answers_with_its_sentence():
    absent = Absent("There is no fleet.")
    assert repr(absent) == repr(absent.disable("porch")) == "There is no fleet."


# opening


def test_book__broken__says_so(tmp_path):
    path = tmp_path / "book.json"
    path.write_text("[]")
    with pytest.raises(BookError):
        AddressBook(path)


def test_open_desk__without_deployment__says_so(tmp_path, chain):
    with pytest.raises(DeploymentError):
        open_desk(tmp_path / "1.json", chain, Outbox(Signers(list)))
