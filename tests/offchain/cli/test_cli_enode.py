from __future__ import annotations

import pytest

from quietfleet.network import Enode


@pytest.fixture
def listening(worker, tmp_path):
    """Give the worker's settings a `[network]` section."""

    def listening(**network):
        lines = "".join(f'{name} = "{value}"\n' for name, value in network.items())
        with (tmp_path / "worker.toml").open("a") as settings:
            settings.write(f"[network]\n{lines}")
        return worker

    return listening


def test_enode__relay__is_its_registered_key_where_others_reach_it(run, listening):
    key = listening(listen="0.0.0.0:30303", advertise="relay-a.example:30303")
    shown = Enode.parse(run("enode", "-s", "worker.toml").stdout.strip())
    assert shown.node_id == key.public.to_bytes()
    assert str(shown.address) == "relay-a.example:30303"


def test_enode__address_to_bind_to_alone__says_what_is_missing(refused, listening):
    listening(listen="0.0.0.0:30303")
    assert "advertise" in refused("enode", "-s", "worker.toml")


def test_enode__no_relay__says_so(refused, worker):
    assert "listen" in refused("enode", "-s", "worker.toml")
