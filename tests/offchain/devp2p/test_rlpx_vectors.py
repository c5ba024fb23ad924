"""Byte for byte what go-ethereum's p2p package computed."""

from __future__ import annotations

import pytest
from rlpx_kit import FRAMES, SESSIONS, SHH, VECTORS, Script, key, padding_draws, payload, public, raw, wire

from quietfleet.crypto import _keccak_pycryptodome, _keccak_pysha3, ecies_open, keccak256, recover
from quietfleet.devp2p import (
    Capability,
    Disconnected,
    Hello,
    HelloReceived,
    MessageReceived,
    Profile,
    Reason,
    Session,
    State,
    _secrets,
    shared_offsets,
)
from quietfleet.devp2p._codes import decode_code, encode_code
from quietfleet.devp2p._frames import MAX_FRAME, FrameReader, FrameWriter
from quietfleet.devp2p._handshake import Initiator, Recipient
from quietfleet.devp2p._hello import decode_disconnect
from quietfleet.devp2p._packets import Ack, Auth, PacketReader
from quietfleet.devp2p._secrets import Agreed, Secrets
from quietfleet.devp2p._snappy import compress, decompress

DETERMINISTIC = [session for session in SESSIONS if "ack_pad_len" in session]
EIP8 = VECTORS["eip8"]
named = pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session["name"])
deterministic = pytest.mark.parametrize("session", DETERMINISTIC, ids=lambda session: session["name"])
role = pytest.mark.parametrize("initiator", [True, False], ids=["initiator", "recipient"])


@pytest.fixture(params=[_keccak_pysha3, _keccak_pycryptodome], ids=["pysha3", "pycryptodome"])
def backend(request, monkeypatch):
    """Each Keccak backend in turn."""
    monkeypatch.setattr(_secrets, "running_keccak", request.param.running_keccak)


def secrets_of(session, *, initiator):
    mine, other = ("initiator", "recipient") if initiator else ("recipient", "initiator")
    shared = key(session[f"{mine}_ephemeral_priv"]).ecdh(public(session[f"{other}_ephemeral_pub"]))
    nonces = raw(session["initiator_nonce"]), raw(session["recipient_nonce"])
    agreed = Agreed(raw(session["auth_packet"]), raw(session["ack_packet"]), *nonces, shared)
    return Secrets.derive(agreed, initiator=initiator)


def initiator_script(session):
    return Script(
        raw(session["initiator_ephemeral_priv"]),
        raw(session["initiator_nonce"]),
        *padding_draws(session["auth_pad_len"]),
        raw(session["auth_ecies_ephemeral_priv"]),
        raw(session["auth_ecies_iv"]),
    )


def recipient_script(session):
    return Script(
        raw(session["recipient_ephemeral_priv"]),
        raw(session["recipient_nonce"]),
        *padding_draws(session["ack_pad_len"]),
        raw(session["ack_ecies_ephemeral_priv"]),
        raw(session["ack_ecies_iv"]),
    )


@pytest.mark.parametrize("packet", EIP8["auth"], ids=lambda packet: packet["name"])
def test_auth__published_packet__opens_to_its_fields(packet):
    reader = PacketReader(key(EIP8["recipient_static_priv"]), Auth.OLD_SIZE)
    opened = reader.feed(raw(packet["packet"]) + b"next")
    assert (opened.text, opened.old, reader.rest()) == (raw(packet["decrypted"]), packet["plain_format"], b"next")
    auth = (Auth.from_old if opened.old else Auth.from_list)(opened.text)
    assert (auth.static, auth.nonce) == (raw(packet["initiator_pub"]), raw(packet["nonce"]))


@pytest.mark.parametrize("packet", EIP8["ack"], ids=lambda packet: packet["name"])
def test_ack__published_packet__opens_to_its_fields(packet):
    opened = PacketReader(key(EIP8["initiator_static_priv"]), Ack.OLD_SIZE).feed(raw(packet["packet"]))
    assert (opened.text, opened.old) == (raw(packet["decrypted"]), packet["plain_format"])
    ack = (Ack.from_old if opened.old else Ack.from_list)(opened.text)
    assert (ack.ephemeral, ack.nonce) == (raw(packet["recipient_ephemeral_pub"]), raw(packet["nonce"]))


@pytest.mark.parametrize("packet", EIP8["auth"], ids=lambda packet: packet["name"])
def test_recipient__published_auth__knows_the_peer_and_answers_in_its_format(packet):
    script = [raw(EIP8["recipient_ephemeral_priv"]), raw(EIP8["recipient_nonce"])]
    script += ([] if packet["plain_format"] else padding_draws(100)) + [b"\x66" * 32, bytes(16)]
    shaken = Recipient(key(EIP8["recipient_static_priv"]), Script(*script)).feed(raw(packet["packet"]))
    assert shaken.peer == public(packet["initiator_pub"])
    answer = shaken.reply if packet["plain_format"] else shaken.reply[2:]
    text = ecies_open(key(EIP8["initiator_static_priv"]), answer, authenticated=shaken.reply[: -len(answer)])
    ack = (Ack.from_old if packet["plain_format"] else Ack.from_list)(text)
    assert ack.ephemeral == key(EIP8["recipient_ephemeral_priv"]).public.to_bytes()
    assert len(shaken.reply) == (Ack.OLD_SIZE if packet["plain_format"] else len(text) + 113 + 2)


def test_derive__published_packets__gives_the_published_secrets():
    expected = EIP8["derivation_Auth2_Ack2"]
    for initiator in (True, False):
        secrets = secrets_of(SESSIONS[0], initiator=initiator)
        assert (secrets.aes.hex(), secrets.mac.hex()) == (expected["aes_secret"], expected["mac_secret"])


@named
@role
@pytest.mark.usefixtures("backend")
def test_derive__any_session__secrets_and_mac_states_agree(session, initiator):
    secrets = secrets_of(session, initiator=initiator)
    side = "initiator" if initiator else "recipient"
    assert (secrets.aes.hex(), secrets.mac.hex()) == (session["aes_secret"], session["mac_secret"])
    assert secrets.egress.digest().hex() == session[f"{side}_egress_mac_initial_digest"]
    assert secrets.ingress.digest().hex() == session[f"{side}_ingress_mac_initial_digest"]


@named
def test_auth_signature__any_session__is_the_ephemeral_keys(session):
    digest = raw(session["auth_signed_hash"])
    ephemeral = key(session["initiator_ephemeral_priv"])
    assert recover(digest, raw(session["auth_signature"])) == ephemeral.public
    assert ephemeral.sign(digest).hex() == session["auth_signature_rfc6979"]
    static = key(session["initiator_static_priv"]).ecdh(public(session["recipient_static_pub"]))
    assert static.hex() == session["static_shared_secret"]


@deterministic
def test_handshake__fixed_randomness__writes_the_same_packets(session):
    script = initiator_script(session)
    initiator = Initiator(key(session["initiator_static_priv"]), public(session["recipient_static_pub"]), script)
    assert initiator.auth.hex() == session["auth_packet"]
    answering = recipient_script(session)
    recipient = Recipient(key(session["recipient_static_priv"]), answering)
    assert recipient.feed(initiator.auth).reply.hex() == session["ack_packet"]
    ours = initiator.feed(raw(session["ack_packet"]))
    assert (ours.secrets.aes.hex(), ours.secrets.mac.hex()) == (session["aes_secret"], session["mac_secret"])
    assert script.draws == answering.draws == []


@named
@role
@pytest.mark.usefixtures("backend")
def test_frames__any_session__written_and_read_the_same(session, initiator):
    secrets = secrets_of(session, initiator=initiator)
    writer, reader = FrameWriter(secrets), FrameReader(secrets, MAX_FRAME)
    outward = "I>R" if initiator else "R>I"
    for frame in session["frames"]:
        body = raw(frame["snappy_payload"]) if frame["snappy"] else payload(frame)
        content = raw(frame["code_rlp"]) + body
        if frame["direction"] == outward:
            assert writer.seal(content) == wire(frame)
            assert secrets.egress.digest().hex() == frame["sender_egress_mac_digest_after"]
        else:
            reader.feed(wire(frame))
            assert reader.next() == content
            assert reader.next() is None
            assert secrets.ingress.digest().hex() == frame["sender_egress_mac_digest_after"]


@pytest.mark.parametrize("frame", [frame for _, frame in FRAMES], ids=lambda frame: frame["name"])
def test_code_and_payload__any_frame__encode_and_decode(frame):
    code = raw(frame["code_rlp"])
    assert encode_code(frame["code"]) == code
    assert decode_code(memoryview(code + b"\x7f")) == (frame["code"], len(code))
    plain = payload(frame)
    assert keccak256(plain).hex() == frame["payload_keccak256"]
    if frame["snappy"]:
        assert decompress(memoryview(raw(frame["snappy_payload"])), MAX_FRAME) == plain


def start_session(session, *, initiator):
    """Return our side of a deterministic session, which then holds the keys and nonces of the vector."""
    side, script = ("initiator", initiator_script) if initiator else ("recipient", recipient_script)
    dialled = public(session["recipient_static_pub"]) if initiator else None
    machine = Session(Profile(key(session[f"{side}_static_priv"]), (SHH,), version=4), dialled, script(session))
    assert machine.feed(raw(session["ack_packet" if initiator else "auth_packet"])) == []
    assert machine.output().startswith(raw(session["auth_packet" if initiator else "ack_packet"]))
    return machine


@role
@pytest.mark.parametrize("size", [1, 31, 4096])
def test_session__all_of_a_session__reported_in_order(initiator, size):
    """The vector's Hellos name other keys than its handshake's, so the sender's own is put in their place."""
    session = DETERMINISTIC[0]
    machine, sender = start_session(session, initiator=initiator), "recipient" if initiator else "initiator"
    writer, stream, expected = FrameWriter(secrets_of(session, initiator=not initiator)), b"", []
    for frame in (each for each in session["frames"] if each["direction"] == ("R>I" if initiator else "I>R")):
        body = payload(frame)
        if frame["code"] == 0:
            body = body[:-64] + raw(session[f"{sender}_static_pub"])
            expected.append(HelloReceived(Hello.decode(body), frozenset({"shh"})))
        elif frame["code"] == 1:
            expected.append(Disconnected(Reason.QUITTING))
        elif frame["code"] >= 16:
            expected.append(MessageReceived("shh", frame["code"] - 16, body))
        stream += writer.seal(raw(frame["code_rlp"]) + body)
    assert [event for at in range(0, len(stream), size) for event in machine.feed(stream[at : at + size])] == expected
    assert machine.peer == raw(session[f"{sender}_static_pub"])


@role
def test_session__hello_of_another_key__refused(initiator):
    session = DETERMINISTIC[0]
    machine = start_session(session, initiator=initiator)
    hello = next(each for each in session["frames"] if each["direction"] == ("R>I" if initiator else "I>R"))
    (event,) = machine.feed(wire(hello))
    assert event.error.cause == "unexpected_identity"


def test_session__disconnect_in_place_of_hello__understood():
    session = DETERMINISTIC[1]
    machine = start_session(session, initiator=True)
    assert machine.feed(wire(session["frames"][0])) == [Disconnected(Reason.TOO_MANY_PEERS)]
    assert machine.state is State.CLOSED


@pytest.mark.parametrize("frame", [frame for _, frame in FRAMES if frame["code"] == 1], ids=lambda frame: frame["name"])
def test_decode_disconnect__compressed_or_not__names_the_reason(frame):
    reason = Reason(payload(frame)[-1] % 0x80)
    for written in (frame["snappy_payload"], frame["payload_rlp"]):
        if written:
            assert decode_disconnect(memoryview(raw(written))) is reason


@pytest.mark.parametrize("case", VECTORS["offsets"], ids=lambda case: case["note"])
def test_shared_offsets__case_computed_by_geth__agrees(case):
    ours = [
        Capability(name, int(version), int(length))
        for name, version, length in (text.replace(" len ", "/").split("/") for text in case["local"])
    ]
    theirs = [(name, int(version)) for name, version in (text.split("/") for text in case["remote_caps"])]
    result = {
        each.name: {"offset": first, "version": each.version, "length": each.length}
        for each, first in shared_offsets(ours, theirs).items()
    }
    assert result == case["result"]


@pytest.mark.parametrize("block", VECTORS["snappy_blocks"], ids=lambda block: str(block["plain_len"]))
def test_decompress__block_written_by_go__gives_its_content(block):
    plain = b"0123456789abcdef-" * 5000 if block["plain"] is None else raw(block["plain"])
    assert decompress(memoryview(raw(block["snappy"])), MAX_FRAME) == plain
    assert keccak256(plain).hex() == block["plain_keccak256"]
    assert decompress(memoryview(compress(plain)), MAX_FRAME) == plain
