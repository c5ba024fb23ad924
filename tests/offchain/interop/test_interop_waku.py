"""What is sealed here is opened by @waku/message-encryption, the field's own implementation, and the reverse."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quietfleet.crypto import PrivateKey
from quietfleet.errors import CryptoError
from quietfleet.whisper import Opened, open_asymmetric, open_symmetric, seal_asymmetric, seal_symmetric

PEERS = Path(__file__).parents[3] / "bench" / "peers"
SHARED = bytes(range(32))
RECEIVER = PrivateKey.from_bytes(b"\x04" * 32)
SIGNER = PrivateKey.from_bytes(b"\x03" * 32)
STRANGER = PrivateKey.from_bytes(b"\x05" * 32)

SIZES = pytest.mark.parametrize("size", [0, 1, 188, 189, 253, 254, 255, 256, 4_096, 65_535, 65_536, 70_000])
MODES = pytest.mark.parametrize("mode", ["symmetric", "asymmetric"])
SIGNERS = pytest.mark.parametrize("signer", [None, SIGNER], ids=["unsigned", "signed"])


class Waku:
    """@waku/message-encryption in a Node process, asked one thing at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def seal(self, mode: str, payload: bytes, signer: PrivateKey | None) -> bytes:
        secret = signer.to_bytes().hex() if signer else None
        return bytes.fromhex(
            self.ask(op="seal", mode=mode, key=_key(mode), payload=payload.hex(), signer=secret)["data"]
        )

    def open(self, mode: str, data: bytes) -> dict[str, Any]:
        return self.ask(op="open", mode=mode, key=_key(mode), data=data.hex())


@pytest.fixture(scope="module")
def waku() -> Iterator[Waku]:
    node = shutil.which("node")
    if not node or not (PEERS / "node_modules" / "@waku" / "message-encryption").exists():
        pytest.skip("@waku/message-encryption is not installed: run tools/peers")
    with subprocess.Popen(
        [node, "payload.mjs"], cwd=PEERS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Waku(process)
        assert process.stdin
        process.stdin.close()
        assert process.wait(30) == 0


def _key(mode: str) -> str:
    return (SHARED if mode == "symmetric" else RECEIVER.to_bytes()).hex()


def _seal(mode: str, payload: bytes, signer: PrivateKey | None) -> bytes:
    if mode == "symmetric":
        return seal_symmetric(SHARED, payload, signer=signer)
    return seal_asymmetric(RECEIVER.public, payload, signer=signer)


def _open(mode: str, data: bytes) -> Opened:
    return open_symmetric(SHARED, data) if mode == "symmetric" else open_asymmetric(RECEIVER, data)


def _payload(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@SIZES
@MODES
@SIGNERS
def test_open__sealed_by_waku__gives_payload_and_signer(
    waku: Waku, size: int, mode: str, signer: PrivateKey | None
) -> None:
    opened = _open(mode, waku.seal(mode, _payload(size), signer))
    assert (opened.payload, opened.signer) == (_payload(size), signer.public if signer else None)


@SIZES
@MODES
@SIGNERS
def test_seal__opened_by_waku__gives_payload_and_signer(
    waku: Waku, size: int, mode: str, signer: PrivateKey | None
) -> None:
    answer = waku.open(mode, _seal(mode, _payload(size), signer))
    assert answer == {
        "payload": _payload(size).hex(),
        "signer": "04" + signer.public.to_bytes().hex() if signer else None,
    }


@pytest.mark.parametrize("pad_to", [300, 1_024, 4_096])
@MODES
def test_seal__padded_to_a_size_class__is_opened_by_waku(waku: Waku, pad_to: int, mode: str) -> None:
    if mode == "symmetric":
        data = seal_symmetric(SHARED, b"reading", signer=SIGNER, pad_to=pad_to)
    else:
        data = seal_asymmetric(RECEIVER.public, b"reading", signer=SIGNER, pad_to=pad_to)
    assert bytes.fromhex(waku.open(mode, data)["payload"]) == b"reading"


@MODES
def test_open__altered_on_the_way__is_refused_by_both(waku: Waku, mode: str) -> None:
    ours, theirs = bytearray(_seal(mode, b"reading", None)), bytearray(waku.seal(mode, b"reading", None))
    ours[100] ^= 1
    theirs[100] ^= 1
    assert "refused" in waku.open(mode, bytes(ours))
    with pytest.raises(CryptoError):
        _open(mode, bytes(theirs))


def test_open__sealed_to_a_stranger__is_refused_by_both(waku: Waku) -> None:
    assert "refused" in waku.open("asymmetric", seal_asymmetric(STRANGER.public, b"reading"))
    with pytest.raises(CryptoError):
        open_asymmetric(STRANGER, waku.seal("asymmetric", b"reading", None))
