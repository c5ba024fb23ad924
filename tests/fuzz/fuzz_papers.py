"""What devices hand to owners as files: consents and proofs of new keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec
from harness import Script, target

from quietfleet.chain.consent import Consent
from quietfleet.chain.new_key import KeyProof
from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey, checksum_address
from quietfleet.errors import ConsentInvalid, ProofInvalid

CHAIN, NOW = 31337, 1_700_000_000
KEY: Final = PrivateKey.from_bytes(b"\x01" * 32)
CONTRACT, OWNER, WORKER = (checksum_address(bytes([number]) * 20) for number in (1, 2, 3))
CONSENT: Final = Consent.sign(KEY, CHAIN, CONTRACT, owner=OWNER, kind=Kind.SENSOR, deadline=NOW + 60)
PROOF: Final = KeyProof.sign(KEY, CHAIN, CONTRACT, worker=WORKER, owner=OWNER, epoch=2, deadline=NOW + 60)
ODD: Final[dict[str, list[Any]]] = {
    "owner": ["", "0x", "0x" + "zz" * 20, "0x02", "ä" * 42],
    "deadline": [-1, 2**63, 2**64 - 1, 2**300],
    "public_key": ["", "0x" + "00" * 64, "0x" + "ff" * 64, "zz"],
    "signature": ["", "0x" + "00" * 65, "0x" + "ff" * 65, "0x" + "00" * 64 + "1b"],
    "worker": ["", "0x" + "zz" * 20],
    "epoch": [-1, 2**300],
}


def _seeds() -> Iterator[bytes]:
    for kind, text in ((b"\x00", CONSENT.to_json()), (b"\x01", PROOF.to_json())):
        yield kind + text
        fields = msgspec.json.decode(text)
        for name, values in ODD.items():
            yield from (kind + msgspec.json.encode(fields | {name: value}) for value in values if name in fields)
        yield from (kind + other for other in (b"", b"{}", b"\xff", b'{"owner":"\xff"}', b"[" * 600))


@target(_seeds, 1024)
def chain_papers(data: bytes) -> None:
    script = Script(data)
    kind, text = script.number(2), script.rest()
    with suppress(ConsentInvalid, ProofInvalid):
        if kind:
            proof = KeyProof.from_json(text)
            proof.check(CHAIN, CONTRACT, NOW, owner=proof.owner, epoch=proof.epoch)
            assert KeyProof.from_json(proof.to_json()) == proof
            assert proof.arguments
        else:
            consent = Consent.from_json(text)
            consent.check(CHAIN, CONTRACT, NOW)
            assert Consent.from_json(consent.to_json()) == consent
            assert consent.arguments
