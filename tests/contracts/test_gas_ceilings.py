"""What the common calls may cost, read from receipts: the whole transaction, calldata and refunds included."""

from __future__ import annotations

import pytest
from mirrors import FAR, FEE, Kind


@pytest.fixture(autouse=True)
def _real_node(networks):
    if networks.provider.name != "foundry":
        pytest.skip("gas is measured on anvil: run with --network ethereum:local:foundry")


def test_enrol__signed__costs_at_most_68000(service, enrol_worker, device, device_owner):
    enrol_worker()  # the first worker also pays for the counter's first write
    new = device()
    consent = new.consent(service, device_owner, Kind.SENSOR)
    tx = service.enrol(*new.point, Kind.SENSOR, FAR, consent, sender=device_owner, value=FEE)
    assert tx.gas_used <= 68_000


@pytest.mark.parametrize("active", [False, True])
def test_set_active__one_worker__costs_at_most_33000(active, service, enrol_worker, device_owner):
    worker = enrol_worker()
    if active:
        service.setActive(worker, False, sender=device_owner)
    assert service.setActive(worker, active, sender=device_owner).gas_used <= 33_000
