"""What an operator reads when something on disk is not as it should be: one sentence and exit code 1."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from quietfleet.chain.replica import Replica
from quietfleet.storage import Database

ROWS = 400
PAGE = 4096


@pytest.fixture
def state(worker, tmp_path):
    """A worker's state folder with something in it."""
    with Database(tmp_path / "state" / "worker.db") as database:
        Replica(database)
        database.execute("CREATE TABLE much (body BLOB) STRICT")
        for _ in range(ROWS):
            database.execute("INSERT INTO much VALUES (zeroblob(2000))")
    return tmp_path / "state" / "worker.db"


@pytest.mark.parametrize("command", ["relay", "oracle", "processor"])
@pytest.mark.parametrize("text", ["[worker", "[worker]\nname = 3\n", "\xff\xfe"])
def test_start__damaged_settings__one_sentence_names_the_file(refused, worker, tmp_path, command, text):
    (tmp_path / "worker.toml").write_bytes(text.encode("latin-1"))
    assert "worker.toml" in refused(command)


@pytest.mark.parametrize("command", ["relay", "oracle", "processor"])
@pytest.mark.parametrize("kept", [0, 40])
def test_start__damaged_keystore__one_sentence_names_the_file(refused, worker, tmp_path, command, kept):
    file = tmp_path / "porch.json"
    file.write_bytes(file.read_bytes()[:kept])
    assert "porch.json" in refused(command)


@pytest.mark.parametrize("command", ["relay", "oracle", "processor"])
def test_start__database_is_something_else__one_sentence_says_what_to_do(refused, state, command):
    state.write_bytes(b"all that is left of it\n" * 300)
    assert "move the state folder away" in refused(command)


def test_start__database_cut_off__one_sentence_says_what_to_do(refused, state):
    with state.open("r+b") as file:
        file.truncate(state.stat().st_size // PAGE // 2 * PAGE)
    assert "move the state folder away" in refused("oracle")


@pytest.fixture
def read_only(worker, tmp_path):
    """A file system that may only be read, as the worker's state folder."""
    place, mount = tmp_path / "state", shutil.which("mount")
    place.mkdir()
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "ro", "tmpfs", place], check=False, capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield place
    finally:
        subprocess.run([shutil.which("umount") or "umount", "-l", place], check=True)


def test_start__read_only_disk__one_sentence_says_what_to_do(refused, read_only):
    assert "writable" in refused("oracle")
