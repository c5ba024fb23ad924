from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from eth_account import Account

from quietfleet.crypto import PrivateKey
from quietfleet.crypto.keystore import create_keystore, load_keystore
from quietfleet.errors import KeystoreError
from quietfleet.testbed.mortal import Steps, kill_me

PASSPHRASE = "correct horse"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "device.json"


@pytest.fixture
def stored(path: Path, device: PrivateKey) -> Path:
    create_keystore(path, device, PASSPHRASE, light=True)
    return path


def test_load__right_passphrase__gives_the_key_back(stored: Path, device: PrivateKey) -> None:
    assert load_keystore(stored, PASSPHRASE).to_bytes() == device.to_bytes()


def test_create__light__is_a_version_3_file_that_eth_account_opens(stored: Path, device: PrivateKey) -> None:
    content = json.loads(stored.read_text())
    assert (content["version"], content["crypto"]["kdf"], content["crypto"]["kdfparams"]["n"]) == (3, "scrypt", 4096)
    assert Account.decrypt(content, PASSPHRASE) == device.to_bytes()


def test_create__not_light__costs_geths_standard_work(path: Path, device: PrivateKey) -> None:
    create_keystore(path, device, PASSPHRASE)
    assert json.loads(path.read_text())["crypto"]["kdfparams"]["n"] == 262_144


def test_load__file_eth_account_made__gives_the_key(path: Path, device: PrivateKey) -> None:
    content = Account.encrypt(device.to_bytes(), PASSPHRASE, kdf="pbkdf2", iterations=1000)
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    assert load_keystore(path, PASSPHRASE).public == device.public


def test_create__loose_umask__file_is_the_owners_alone(path: Path, device: PrivateKey) -> None:
    previous = os.umask(0)
    try:
        create_keystore(path, device, PASSPHRASE, light=True)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_create__path_taken__is_refused_and_the_file_untouched(path: Path, device: PrivateKey) -> None:
    path.write_text("mine")
    with pytest.raises(KeystoreError, match="never overwritten"):
        create_keystore(path, device, PASSPHRASE, light=True)
    assert path.read_text() == "mine"


def test_create__dangling_link_in_the_way__is_refused(path: Path, device: PrivateKey, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeystoreError):
        create_keystore(path, device, PASSPHRASE, light=True)
    assert not (tmp_path / "elsewhere").exists()


def test_create__no_such_folder__says_so(tmp_path: Path, device: PrivateKey) -> None:
    with pytest.raises(KeystoreError, match="No such file"):
        create_keystore(tmp_path / "none" / "key.json", device, PASSPHRASE, light=True)


def test_create__disk_fails__leaves_no_half_file(
    path: Path, device: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeystoreError, match="No space"):
        create_keystore(path, device, PASSPHRASE, light=True)
    assert list(path.parent.iterdir()) == []


STEPS = 9  # before and after each call below, but for the last


def _create_and_die(path: Path, key: PrivateKey, fatal: int) -> None:
    """Make a key file until death comes, before or after one of the calls that leave something on the disk."""
    steps = Steps(kill_me, fatal)

    def numbered(act: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **options: object) -> object:
            steps.take("before")
            done = act(*arguments, **options)
            steps.take("after")
            return done

        return run

    for owner, names in ((tempfile, ["mkstemp"]), (os, ["fsync", "link", "unlink"])):
        for name in names:
            setattr(owner, name, numbered(getattr(owner, name)))
    create_keystore(path, key, PASSPHRASE, light=True)


@pytest.mark.parametrize("fatal", range(1, STEPS + 1))
def test_create__killed_at_each_step__whole_key_or_none_is_there_and_the_next_try_goes_on(
    path: Path, device: PrivateKey, fatal: int
) -> None:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            _create_and_die(path, device, fatal)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert all(stat.S_IMODE(left.stat().st_mode) == 0o600 for left in path.parent.iterdir())
    if not path.exists():
        create_keystore(path, device, PASSPHRASE, light=True)
    assert load_keystore(path, PASSPHRASE).to_bytes() == device.to_bytes()


def test_create__somebody_else_was_faster__their_file_stays(
    path: Path, device: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def outrun(descriptor: int) -> None:
        path.write_text("theirs")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", outrun)
    with pytest.raises(KeystoreError, match="never overwritten"):
        create_keystore(path, device, PASSPHRASE, light=True)
    assert path.read_text() == "theirs"
    assert list(path.parent.iterdir()) == [path]


def test_load__wrong_passphrase__says_so(stored: Path) -> None:
    with pytest.raises(KeystoreError, match="passphrase is wrong"):
        load_keystore(stored, "battery staple")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_load__others_may_touch_the_file__is_refused(stored: Path, mode: int) -> None:
    stored.chmod(mode)
    with pytest.raises(KeystoreError, match="chmod 600"):
        load_keystore(stored, PASSPHRASE)


def test_load__no_file__says_so(path: Path) -> None:
    with pytest.raises(KeystoreError, match="No such file"):
        load_keystore(path, PASSPHRASE)


@pytest.mark.parametrize(
    "content", ["", "no json", "[]", "{}", '{"version": 3}', '{"version": 9}', '{"version": 3, "crypto": []}']
)
def test_load__not_a_key_file__says_so(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeystoreError, match="not an Ethereum key file"):
        load_keystore(path, PASSPHRASE)


def test_load__stored_key_altered__is_refused(stored: Path) -> None:
    content = json.loads(stored.read_text())
    content["crypto"]["ciphertext"] = "00" * 32
    stored.write_text(json.dumps(content))
    with pytest.raises(KeystoreError):
        load_keystore(stored, PASSPHRASE)


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
@pytest.mark.parametrize("number", [1, 2**200, 2**255])
def test_load__files_eth_account_made_of_many_keys__gives_each_key(path: Path, number: int, kdf: str) -> None:
    secret = number.to_bytes(32, "big")
    path.write_text(json.dumps(Account.encrypt(secret, PASSPHRASE, kdf=kdf, iterations=4096)))
    path.chmod(0o600)
    assert load_keystore(path, PASSPHRASE).to_bytes() == secret


@pytest.mark.parametrize(
    ("name", "value"), [("n", 2**40), ("n", -1), ("n", "many"), ("dklen", 16), ("r", 2**30), ("salt", "zz")]
)
def test_load__hostile_parameters__are_refused_without_their_work(stored: Path, name: str, value: object) -> None:
    content = json.loads(stored.read_text())
    content["crypto"]["kdfparams"][name] = value
    stored.write_text(json.dumps(content))
    with pytest.raises(KeystoreError, match="not an Ethereum key file"):
        load_keystore(stored, PASSPHRASE)
