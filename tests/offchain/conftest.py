"""Stores that replicas share, each the real thing: a file, a Redis server where one is installed; and a small disk."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import pytest

from quietfleet.storage import SqliteStore
from quietfleet.storage._redis import open_redis
from quietfleet.testbed import redis as testbed


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    if not testbed.installed():
        pytest.skip(testbed.MISSING)
    with testbed.RedisServer(tmp_path_factory.mktemp("redis"), "a-word-for-tests") as server:
        yield server


_spaces = itertools.count()


@pytest.fixture(params=["sqlite", "redis"])
def openings(request, tmp_path_factory):
    """A factory of fresh stores, each given as a function that opens it once more."""
    if request.param == "sqlite":
        return lambda: _sqlite(tmp_path_factory.mktemp("store") / "shared.db")
    server = request.getfixturevalue("redis_server")
    return lambda: _redis(server, f"space-{next(_spaces)}")


def _sqlite(path):
    return lambda: SqliteStore(path)


def _redis(server, space):
    return lambda: open_redis(server.url, server.password, space)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a megabyte, where we may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    made = mount and subprocess.run([mount, *options], check=False, capture_output=True)
    if not made or made.returncode:
        pytest.skip("no file system may be mounted here; the same is tested by SQLite's own limit")
    try:
        yield place
    finally:
        subprocess.run([shutil.which("umount") or "umount", "-l", place], check=True)
