"""A process that speaks no TLS runs without Python's OpenSSL; one that does keeps it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from quietfleet.lean import speaks_tls
from quietfleet.settings import ChainSection

WORKS = """
import json, sys
from quietfleet.lean import leave_out_openssl
leave_out_openssl()
import asyncio, quietfleet.workers.sensor, quietfleet.workers.start
from quietfleet.chain.light_http import LightHttp
from quietfleet.crypto import PrivateKey, ecies_open, ecies_seal
from quietfleet.crypto.keystore import create_keystore, load_keystore
from quietfleet.whisper.payload import password_key
from pathlib import Path

key = PrivateKey((7).to_bytes(32))
create_keystore(Path(sys.argv[1]), key, "correct horse", light=True)
asyncio.run(asyncio.sleep(0))
print(json.dumps({
    "opened": load_keystore(Path(sys.argv[1]), "correct horse").to_bytes() == key.to_bytes(),
    "sealed": ecies_open(key, ecies_seal(key.public, b"reading")) == b"reading",
    "password": password_key("test").hex(),
    "openssl": any("libcrypto" in line or "libssl" in line for line in open("/proc/self/maps")),
}))
"""
LOADED = (
    "import ssl; from quietfleet.lean import leave_out_openssl as out; out(); import ssl as still; still.MemoryBIO()"
)
PASSWORD_KEY = "a82a520aff70f7a989098376e48ec128f25f767085e84d7fb995a9815eebff0a"


def deployed(**chain):
    return ChainSection(deployment="deployment.json", **chain)


@pytest.mark.parametrize(
    ("chain", "speaks"),
    [
        ({}, False),
        ({"rpc": "relays"}, False),
        ({"rpc": "https://node.example"}, True),
        ({"rpc": "HTTPS://node.example"}, True),
        ({"second": "https://node.example"}, True),
        ({"fallbacks": ["http://here", "https://node.example"]}, True),
        ({"ws": "ws://127.0.0.1:8546"}, True),
    ],
)
def test_speaks_tls__each_endpoint__is_looked_at(chain, speaks):
    assert speaks_tls(deployed(**chain)) is speaks


def test_leave_out__a_sensor__seals_and_opens_without_libcrypto(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WORKS, str(tmp_path / "key.json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "opened": True,
        "sealed": True,
        "password": PASSWORD_KEY,
        "openssl": False,
    }


def test_leave_out__what_is_loaded_already__stays():
    subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True)
