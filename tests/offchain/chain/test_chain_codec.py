"""Logs to events, revert data to reasons, deployment files to records, consents to JSON."""

from __future__ import annotations

import json

import msgspec
import pytest
from eth_abi.abi import encode
from memory_chain import DEPLOYMENT, RELEASES, SERVICE, configuration_tuple, emitted, enode, key, owner, worker_id

from quietfleet.chain import events
from quietfleet.chain.abi import Abi, canonical_type
from quietfleet.chain.bloom import bloom_of, may_contain
from quietfleet.chain.channel import Report, Terms
from quietfleet.chain.codec import Codec
from quietfleet.chain.consent import Consent
from quietfleet.chain.deployment import load_deployment, save_deployment
from quietfleet.chain.source import RawLog
from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey, keccak256, recover
from quietfleet.crypto.consent import consent_digest
from quietfleet.errors import AbiError, ConsentInvalid, DeploymentError

CODEC = Codec(DEPLOYMENT)
ID, OWNER, OTHER = worker_id(1), owner(1), owner(2)
CHANNEL, MANIFEST = b"\x07" * 32, b"\x08" * 32


def log(event, **changes):
    values = {"address": event.address, "topics": event.topics, "data": event.data}
    return RawLog(**(values | changes), block=5, block_hash=bytes(32), index=0)


HALVES = {"x": key(1)[:32], "y": key(1)[32:]}
ENROLLED = emitted("Enrolled", id=ID, owner=OWNER, kind=3, **HALVES)
TERMS = Terms(MANIFEST, b"\x01" * 32, b"\x02" * 32, 10, 20, 30, 4)
RELEASE = {"channel": CHANNEL, "sequence": 3}
DECODED = [
    (ENROLLED, events.Enrolled(ID, OWNER, Kind.GATEWAY, key(1))),
    (
        emitted("EnrolledItself", id=ID, owner=OWNER, kind=1, **HALVES),
        events.EnrolledItself(ID, OWNER, Kind.SENSOR, key(1)),
    ),
    (emitted("Accepted", id=ID, owner=OWNER, sequence=2), events.Accepted(ID, OWNER, 2)),
    (emitted("ActiveChanged", id=ID, by=OTHER, active=False, sequence=2), events.ActiveChanged(ID, OTHER, False, 2)),
    (emitted("SuspendedChanged", id=ID, suspended=True, sequence=3), events.SuspendedChanged(ID, True, 3)),
    (
        emitted("KeyRotated", id=OTHER, key=ID, **HALVES, epoch=5, sequence=6),
        events.KeyRotated(OTHER, ID, key(1), 5, 6),
    ),
    (emitted("TransferOffered", id=ID, to=OTHER, sequence=3), events.TransferOffered(ID, OTHER, 3)),
    (emitted("TransferCancelled", id=ID, sequence=3), events.TransferCancelled(ID, 3)),
    (
        emitted("OwnerChanged", id=ID, **{"from": OWNER, "to": OTHER}, sequence=4),
        events.OwnerChanged(ID, OWNER, OTHER, 4),
    ),
    (
        emitted("BootstrapNamed", version=3, enodes=(enode(1), enode(2)), previousBlock=7),
        events.BootstrapNamed(3, (enode(1), enode(2))),
    ),
    (emitted("Retired", id=ID, owner=OWNER, sequence=5), events.Retired(ID, OWNER, 5)),
    (
        emitted("ReleaseProposed", **RELEASE, terms=msgspec.structs.astuple(TERMS)),
        events.ReleaseProposed(CHANNEL, 3, TERMS),
    ),
    (emitted("ReleaseApproved", **RELEASE, by=OTHER), events.ReleaseApproved(CHANNEL, 3, OTHER)),
    (emitted("WaveOpened", **RELEASE, wave=2), events.WaveOpened(CHANNEL, 3, 2)),
    (emitted("RolloutPaused", **RELEASE, by=OTHER), events.RolloutPaused(CHANNEL, 3, OTHER)),
    (emitted("RolloutResumed", **RELEASE, by=OTHER), events.RolloutResumed(CHANNEL, 3, OTHER)),
    (
        emitted("ReleaseFinalised", **RELEASE, floor=2, report=(b"\x09" * 32, 7, 8, 9)),
        events.ReleaseFinalised(CHANNEL, 3, 2, Report(7, 8, 9, b"\x09" * 32)),
    ),
    (
        emitted("RolledBack", **RELEASE, target=1, manifestHash=MANIFEST),
        events.RolledBack(CHANNEL, 3, MANIFEST, 1),
    ),
    (
        emitted("ReleaseRevoked", **RELEASE, manifestHash=MANIFEST, floor=4),
        events.ReleaseRevoked(CHANNEL, 3, MANIFEST, 4),
    ),
]


@pytest.mark.parametrize(("event", "expected"), DECODED, ids=lambda one: type(one).__name__)
def test_decode__log__is_the_event_and_survives_storage(event, expected):
    decoded = CODEC.decode(log(event))
    assert decoded == expected
    assert events.decode_event(events.encode_event(decoded)) == expected


def test_decode__configuration__has_every_field_in_its_place():
    parts = configuration_tuple(version=7, minPow=1_500_000_000, grace=9, previousBlock=77)
    event = CODEC.decode(log(emitted("ConfigurationRotated", version=7, configuration=parts)))
    configuration = event.configuration
    assert (configuration.version, configuration.grace, configuration.min_pow) == (7, 9, 1.5)
    assert (configuration.oracle, configuration.gateway) == (worker_id(1000), worker_id(1001))
    assert configuration.epoch_key_commitment == b"\x01" * 32
    assert configuration.oracle_card_digest == b"\x02" * 32
    assert configuration.gateway_card_digest == b"\x03" * 32
    assert configuration.previous_block == 77
    assert events.decode_event(events.encode_event(event)) == event


def test_decode__relay_that_is_no_text__is_read_all_the_same():
    """The contract takes any bytes; readers must not stop at what its owner wrote."""
    event = emitted("BootstrapNamed", version=1, enodes=("\x01" * 150, enode(1)), previousBlock=0)
    decoded = CODEC.decode(log(event, data=event.data.replace(b"\x01" * 150, b"\xff" * 150)))
    assert decoded.enodes == ("\ufffd" * 150, enode(1))
    assert events.decode_event(events.encode_event(decoded)) == decoded


@pytest.mark.parametrize("enodes", [17 * ("x" * 140,), ("x" * 201,), ("é" * 201,)])
def test_decode__list_of_relays_beyond_the_contracts_bounds__raises(enodes):
    with pytest.raises(AbiError, match="bounds"):
        CODEC.decode(log(emitted("BootstrapNamed", version=1, enodes=enodes, previousBlock=0)))


def test_decode__event_no_state_depends_on__is_none():
    assert CODEC.decode(log(emitted("FeeChanged", previous=1, current=2))) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"topics": (b"\x09" * 32,)},
        {"topics": ()},
        {"topics": ENROLLED.topics[:2]},
        {"data": ENROLLED.data[:-32]},
        {"address": RELEASES},
        {"topics": (ENROLLED.topics[0], b"\xff" * 32, ENROLLED.topics[2])},
    ],
)
def test_decode__log_the_abi_does_not_describe__raises(changes):
    with pytest.raises(AbiError):
        CODEC.decode(log(ENROLLED, **changes))


def test_decode__kind_beyond_the_known__raises():
    with pytest.raises(AbiError):
        CODEC.decode(log(emitted("Enrolled", id=ID, owner=OWNER, kind=6, **HALVES)))


def test_decode__key_that_is_not_the_one_named__raises():
    with pytest.raises(AbiError):
        CODEC.decode(log(emitted("KeyRotated", id=ID, key=OTHER, **HALVES, epoch=1, sequence=2)))


NESTED = {
    "type": "tuple[]",
    "name": "list",
    "components": [{"type": "address", "name": "a"}, {"type": "uint8[2]", "name": "b"}],
}
ABI = Abi(
    [
        {"type": "function", "name": "f", "inputs": [NESTED], "outputs": [NESTED]},
        {"type": "function", "name": "g", "inputs": [{"type": "uint8", "name": "x"}], "outputs": []},
        {"type": "function", "name": "g", "inputs": [{"type": "bool", "name": "x"}], "outputs": []},
        {"type": "error", "name": "Refused", "inputs": [{"type": "address", "name": "caller"}]},
    ]
)


def test_function__nested_struct__comes_back_as_dictionaries():
    function = ABI.function("f")
    assert canonical_type(NESTED) == "(address,uint8[2])[]"
    data = function.encode(([(OWNER, (1, 2))],))
    assert data[:4] == keccak256(b"f((address,uint8[2])[])")[:4]
    assert function.decode(data[4:]) == (({"a": OWNER, "b": (1, 2)},),)


def test_function__overloaded__is_found_by_signature():
    assert ABI.function("g(bool)").selector == keccak256(b"g(bool)")[:4]
    assert ABI.function("g").signature == "g(uint8)"
    with pytest.raises(AbiError):
        ABI.function("h")


def test_function__unfit_values__raises():
    with pytest.raises(AbiError):
        ABI.function("g").encode((256,))
    with pytest.raises(AbiError):
        ABI.function("f").decode(b"")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (keccak256(b"Refused(address)")[:4] + encode(["address"], [OWNER]), ("Refused", {"caller": OWNER})),
        (bytes.fromhex("08c379a0") + encode(["string"], ["no"]), ("Error", {"message": "no"})),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [17]), ("Panic", {"code": 17})),
        (b"", ("NoReason", {})),
        (b"\x01\x02\x03\x04", ("Unknown", {"data": "0x01020304"})),
        (keccak256(b"Refused(address)")[:4], ("Unknown", {"data": "0x" + keccak256(b"Refused(address)")[:4].hex()})),
    ],
)
def test_error__revert_data__is_named(data, expected):
    assert ABI.error(data) == expected


def test_bloom__address_added__is_found_and_others_are_not():
    bloom = bloom_of(bytes.fromhex(SERVICE[2:]))
    assert bloom.bit_count() == 3
    assert may_contain(bloom, bytes.fromhex(SERVICE[2:]))
    assert not may_contain(bloom, bytes.fromhex(RELEASES[2:]))


def test_save_deployment__then_load__is_the_same(tmp_path):
    path = tmp_path / "1337.json"
    save_deployment(path, DEPLOYMENT)
    assert load_deployment(path) == DEPLOYMENT
    with pytest.raises(DeploymentError):
        save_deployment(path, DEPLOYMENT)


def test_load_deployment__lower_case_address_and_more_fields__is_read(tmp_path):
    path = tmp_path / "1.json"
    contract = {"address": SERVICE.lower(), "abi": [], "block": 4, "tx": "0x00"}
    other = {"address": RELEASES.lower(), "abi": [], "block": 3, "tx": "0x00"}
    path.write_text(
        json.dumps({"chain_id": 1, "deployer": "0x", "contracts": {"Service": contract, "ModelReleases": other}})
    )
    deployment = load_deployment(path)
    assert deployment.addresses == (SERVICE, RELEASES)
    assert deployment.first_block == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"chain_id": 1, "contracts": {}}',
        '{"chain_id": 1, "contracts": {"Service": {"address": "0x12", "abi": [], "block": 1}}}',
        '{"chain_id": "one", "contracts": {}}',
    ],
)
def test_load_deployment__malformed__raises(tmp_path, text):
    path = tmp_path / "1.json"
    path.write_text(text)
    with pytest.raises(DeploymentError):
        load_deployment(path)


def test_load_deployment__missing__raises(tmp_path):
    with pytest.raises(DeploymentError):
        load_deployment(tmp_path / "none.json")


@pytest.fixture
def device():
    return PrivateKey.from_bytes(b"\x11" * 32)


@pytest.fixture
def consent(device):
    return Consent.sign(device, 1337, SERVICE, owner=OWNER, kind=Kind.SENSOR, deadline=1000)


def test_consent__through_json__is_the_same_and_checks(consent, device):
    again = Consent.from_json(consent.to_json())
    assert again == consent
    assert again.id == device.public.id
    assert again.signature[64] in (27, 28)
    assert set(json.loads(consent.to_json())) == {"public_key", "kind", "owner", "deadline", "signature"}
    digest = consent_digest(1337, SERVICE, OWNER, Kind.SENSOR, 1000)
    assert recover(digest, again.signature) == device.public
    again.check(1337, SERVICE, now=1000)


@pytest.mark.parametrize(("chain_id", "contract", "now"), [(1, SERVICE, 0), (1337, RELEASES, 0), (1337, SERVICE, 1001)])
def test_consent__elsewhere_or_late__is_invalid(consent, chain_id, contract, now):
    with pytest.raises(ConsentInvalid):
        consent.check(chain_id, contract, now)


def test_consent__no_signature_or_no_key__is_invalid(consent):
    broken = Consent(consent.public_key, consent.kind, consent.owner, consent.deadline, bytes(65))
    with pytest.raises(ConsentInvalid):
        broken.check(1337, SERVICE, now=0)
    with pytest.raises(ConsentInvalid):
        _ = Consent(bytes(64), consent.kind, consent.owner, consent.deadline, bytes(65)).id


@pytest.mark.parametrize("text", [b"", b"{}", b'{"public_key":"0xzz","kind":1,"owner":"","deadline":1,"signature":""}'])
def test_consent__not_json_of_one__is_invalid(text):
    with pytest.raises(ConsentInvalid):
        Consent.from_json(text)
