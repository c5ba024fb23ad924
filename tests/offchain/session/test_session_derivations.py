"""Every key comes out of one function under a label of its own: read off the source, and held against the protocol."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "offchain" / "quietfleet"
OTHERS = {  # derivations that are somebody else's protocol
    "crypto/_derive.py",  # the one function
    "crypto/_key_file.py",  # Ethereum's key files
    "whisper/payload.py",  # geth's key from a password
}
FUNCTIONS = {"HKDF", "HKDFExpand", "ConcatKDFHash", "ConcatKDFHMAC", "X963KDF", "PBKDF2HMAC", "Scrypt", "KBKDFHMAC"}
FUNCTIONS |= {"KBKDFCMAC", "Argon2id", "Argon2d", "Argon2i", "pbkdf2_hmac", "scrypt", "hkdf_extract", "hkdf_expand"}
SHARED = {"storage", "pseudonyms"}  # the one has a context that says what for, the other is each veil's


def parsed(below=SOURCE):
    return {str(path.relative_to(SOURCE)): ast.parse(path.read_text()) for path in sorted(below.rglob("*.py"))}


def names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        if isinstance(node, ast.Attribute):
            yield node.attr
        if isinstance(node, ast.alias):
            yield node.name.rpartition(".")[2]


def labels(tree):
    named = (node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign))
    pairs = ((getattr(n, "target", None) or n.targets[0], n.value) for n in named)
    constants = {name.id: v.value for name, v in pairs if isinstance(name, ast.Name) and isinstance(v, ast.Constant)}
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id == "derive":
            label = call.args[1]
            yield constants.get(label.id) if isinstance(label, ast.Name) else getattr(label, "value", None)


@pytest.fixture(scope="module")
def derived():
    """The files in which each label is used."""
    found = {}
    for name, tree in parsed().items():
        for label in labels(tree):
            found.setdefault(label, set()).add(name)
    return found


def test_sources__none_but_the_one_function__derives_keys():
    users = {name for name, tree in parsed().items() if FUNCTIONS & set(names(tree))}
    assert users - OTHERS == set()


def test_sessions__hash_content_and_digests_alone__and_never_by_hand():
    hands = {name for name, tree in parsed(SOURCE / "session").items() if {"hashlib", "hmac"} & set(names(tree))}
    assert hands == {"session/_large.py"}, "the digest of a large payload"


def test_labels__are_written_out__so_that_they_can_be_read_off(derived):
    assert None not in derived


def test_labels__serve_one_purpose_each(derived):
    assert {label: files for label, files in derived.items() if len(files) > 1 and label not in SHARED} == {}


def test_labels__of_sessions__are_in_the_key_schedule_with_their_file(derived):
    schedule = (ROOT / "docs" / "protocol.md").read_text().partition("## Key schedule")[2].partition("\n## ")[0]
    rows = [row for row in schedule.splitlines() if row.startswith("| ")]
    for label, files in derived.items():
        for file in (name for name in files if name.startswith(("session/", "whisper/", "dispatch/"))):
            assert any(f"`{label}`" in row and file in row for row in rows), (label, file)
