from __future__ import annotations

import json
import secrets

import pytest

from quietfleet.chain.events import ConfigurationRotated
from quietfleet.chain.types import Configuration
from quietfleet.session import Epochs, Identity, epoch_commitment
from quietfleet.storage import Database

PREPARE = ("prepare-epoch", "-s", "worker.toml", "--version")


@pytest.fixture
def epochs(tmp_path, worker):
    """What the worker's own database holds of its epochs."""

    def epochs():
        with Database(tmp_path / "state" / "worker.db") as database:
            return Epochs(database, Identity(worker), secrets.token_bytes)

    return epochs


@pytest.fixture
def on_chain(read):
    """Puts configurations up to a version on chain, as far as this worker has read it."""
    return lambda version: read(*(_rotated(number) for number in range(1, version + 1)))


def _rotated(version):
    return ConfigurationRotated(
        Configuration(version, 0, 60, 0.2, 60, 1 << 20, "", "", b"\1" * 32, b"\2" * 32, b"\3" * 32)
    )


def test_prepare_epoch__first_time__shows_the_public_half_of_what_it_keeps(run, worker, epochs):
    shown = json.loads(run(*PREPARE, 3, "--epoch-key").stdout)
    kept = epochs()
    assert shown == {
        "version": 3,
        "worker": worker.public.id,
        "card_digest": "0x" + kept.secrets(3).card.digest.hex(),
        "epoch_key_commitment": "0x" + epoch_commitment(kept.epoch_key(3)).hex(),
    }


def test_prepare_epoch__gateway__has_no_epoch_key(run, worker, epochs):
    assert "epoch_key_commitment" not in json.loads(run(*PREPARE, 1).stdout)
    assert epochs().epoch_key(1) is None


def test_prepare_epoch__again__same_keys_shown_and_kept(run, worker, epochs):
    first = run(*PREPARE, 1, "--epoch-key").stdout
    key, card = epochs().epoch_key(1), epochs().secrets(1).card
    assert run(*PREPARE, 1, "--epoch-key").stdout == first
    assert (epochs().epoch_key(1), epochs().secrets(1).card) == (key, card)


def test_prepare_epoch__already_on_chain__shown_again_not_drawn_again(run, worker, on_chain, epochs):
    first = run(*PREPARE, 1, "--epoch-key").stdout
    on_chain(1)
    assert run(*PREPARE, 1, "--epoch-key").stdout == first


def test_prepare_epoch__epoch_key_asked_for_later__card_stays(run, worker, epochs):
    bare = json.loads(run(*PREPARE, 1).stdout)
    full = json.loads(run(*PREPARE, 1, "--epoch-key").stdout)
    assert full["card_digest"] == bare["card_digest"]
    assert full["epoch_key_commitment"] == "0x" + epoch_commitment(epochs().epoch_key(1)).hex()


def test_prepare_epoch__epoch_key_not_asked_for_again__it_stays(run, worker, epochs):
    run(*PREPARE, 1, "--epoch-key")
    key = epochs().epoch_key(1)
    assert "epoch_key_commitment" not in json.loads(run(*PREPARE, 1).stdout)
    assert epochs().epoch_key(1) == key


def test_prepare_epoch__chain_has_it_and_the_keys_are_lost__refused_and_nothing_drawn(
    refused, worker, on_chain, epochs
):
    on_chain(4)
    assert "the next is 5" in refused(*PREPARE, 4, "--epoch-key")
    assert "the next is 5" in refused(*PREPARE, 1)
    assert epochs().all_secrets() == []


def test_prepare_epoch__on_chain_without_our_epoch_key__no_other_one_is_drawn(run, refused, worker, on_chain, epochs):
    run(*PREPARE, 1)
    on_chain(1)
    assert "the next is 2" in refused(*PREPARE, 1, "--epoch-key")
    assert epochs().epoch_key(1) is None


def test_prepare_epoch__the_next_one__other_keys(run, worker, on_chain):
    first = json.loads(run(*PREPARE, 1, "--epoch-key").stdout)
    on_chain(1)
    second = json.loads(run(*PREPARE, 2, "--epoch-key").stdout)
    assert not set(first.values()) & (set(second.values()) - {worker.public.id})


@pytest.mark.parametrize("version", ["0", "-1", "4294967296", "two"])
def test_prepare_epoch__no_version_of_the_contract__refused(run, worker, version):
    result = run(*PREPARE, version)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--version" in result.stderr


def test_prepare_epoch__wrong_passphrase__nothing_drawn(refused, worker, tmp_path):
    assert "passphrase is wrong" in refused(*PREPARE, 1, passphrase="x")
    assert not (tmp_path / "state").exists()


def test_prepare_epoch__no_settings__says_so(refused):
    assert "worker.toml does not exist" in refused(*PREPARE, 1)
