from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quietfleet.crypto import PrivateKey
from quietfleet.whisper import Envelope

VECTORS = Path(__file__).parent.parent / "vectors"
NOW = 1_700_000_000


def read_vectors(name: str) -> Any:
    """Read a vector file with every 0x string as bytes."""
    return json.loads((VECTORS / name).read_text(), object_hook=_unhex)


def _unhex(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: bytes.fromhex(value[2:]) if str(value).startswith("0x") else value for key, value in entry.items()}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Turn each vector into one case of the tests that name its kind as an argument."""
    geth = read_vectors("whisper_v6.json")
    kinds = {
        "geth_envelope": geth["envelopes"],
        "geth_pow": geth["pow"],
        "geth_bloom": geth["bloom"],
        "geth_password": geth["password_kdf"]["vectors"],
        "waku_message": read_vectors("waku_payload.json")["vectors"],
    }
    for name in kinds.keys() & set(metafunc.fixturenames):
        metafunc.parametrize(name, kinds[name])


@pytest.fixture(scope="session")
def shared_key() -> bytes:
    return bytes(read_vectors("whisper_v6.json")["keys"]["sym"])


@pytest.fixture(scope="session")
def sender() -> PrivateKey:
    return PrivateKey.from_bytes(read_vectors("whisper_v6.json")["keys"]["src_priv"])


@pytest.fixture(scope="session")
def receiver() -> PrivateKey:
    return PrivateKey.from_bytes(read_vectors("whisper_v6.json")["keys"]["dst_priv"])


@pytest.fixture
def now() -> int:
    return NOW


@pytest.fixture
def make_envelope() -> Callable[..., Envelope]:
    """Make an envelope sent now, whose fields can be changed one by one."""

    def make(**changes: Any) -> Envelope:
        fields = {"expiry": NOW + 50, "ttl": 50, "topic": b"topi", "data": b"data", "nonce": 0} | changes
        return Envelope(**fields)

    return make
