"""Addresses as Swarm computes them: against vectors, and live against the field's own program where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.storage import SwarmHash, swarm_address
from quietfleet.storage._swarm import BRANCHES, Tree, chunk_address

ROOT = Path(__file__).parents[3]
PEERS = ROOT / "bench" / "peers"
VECTORS = json.loads((ROOT / "tests/offchain/vectors/swarm_bmt.json").read_text())
KNOWN = {int(size): bytes.fromhex(address.removeprefix("0x")) for size, address in VECTORS["addresses"].items()}


def patterned(size):
    """The bytes that the vectors are about."""
    return bytes((at * 31 + (at >> 8) * 17) & 0xFF for at in range(size))


def plain_root(chunks):
    """The root of (address, span) of a file's chunks, level by level: the last one waits where it would be alone."""
    waiting = None
    while len(chunks) > 1 or waiting:
        if waiting is None and len(chunks) % BRANCHES == 1:
            waiting = chunks.pop()
        groups = [chunks[at : at + BRANCHES] for at in range(0, len(chunks), BRANCHES)]
        spans = [sum(span for _, span in group) for group in groups]
        joined = (b"".join(address for address, _ in group) for group in groups)
        chunks = [(chunk_address(payload, span), span) for payload, span in zip(joined, spans, strict=True)]
        if waiting is not None and len(chunks) % BRANCHES:
            chunks.append(waiting)
            waiting = None
    return chunks[0][0]


@pytest.mark.parametrize("size", KNOWN)
def test_swarm_address__vector__is_the_fields(size):
    assert swarm_address(patterned(size)) == KNOWN[size]


def test_swarm_address__live__is_the_fields_own_programs():
    if not (PEERS / "node_modules/@fairdatasociety/bmt-js").is_dir() or shutil.which("node") is None:
        pytest.skip("bench/peers is not installed: `npm ci` there")
    sizes = [*KNOWN, 4095, 8191, 100_000, 128 * 4096 - 1]
    asked = "".join(f"{size}\n" for size in sizes)
    done = subprocess.run(["node", "swarm.mjs"], input=asked, cwd=PEERS, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [swarm_address(patterned(size)).hex() for size in sizes]


@given(st.lists(st.binary(max_size=9000), max_size=6))
def test_update__in_pieces__is_the_same_and_goes_on_after_a_look(pieces):
    whole, seen = SwarmHash(), b""
    for piece in pieces:
        whole.update(piece)
        seen += piece
        assert whole.digest() == swarm_address(seen)
    assert whole.digest() == swarm_address(seen)


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 130, 255, 256, 257, 16383, 16384, 16385, 16386, 16512, 16513])
def test_tree__so_many_chunks__is_built_as_level_by_level(count):
    chunks = [(number.to_bytes(32, "big"), 4096) for number in range(count - 1)] + [(b"\x07" * 32, 5)]
    tree = Tree()
    for address, span in chunks[:-1]:
        tree.add(address, span)
    assert tree.root(chunks[-1:]) == plain_root(list(chunks))
    tree.add(*chunks[-1])
    assert tree.root() == plain_root(list(chunks))
    assert all(len(level) < BRANCHES for level in tree._levels)


def test_chunk_address__padded_with_zeros__differs_by_its_span_alone():
    assert chunk_address(b"a", 1) == chunk_address(b"a\0", 1)
    assert chunk_address(b"a", 1) != chunk_address(b"a", 2)
    assert swarm_address(b"a") != swarm_address(b"a\0")
