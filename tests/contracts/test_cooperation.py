from __future__ import annotations

from itertools import product

import pytest
from mirrors import Kind

PAIRS = {
    frozenset(pair)
    for pair in [
        (Kind.SENSOR, Kind.PROCESSOR),
        (Kind.PROCESSOR, Kind.GATEWAY),
        (Kind.GATEWAY, Kind.GATEWAY),
        (Kind.SENSOR, Kind.ORACLE),
        (Kind.PROCESSOR, Kind.ORACLE),
        (Kind.GATEWAY, Kind.ORACLE),
    ]
}


def test_can_cooperate__every_pair_of_kinds__as_the_table_says(service, enrol_worker):
    ones = {kind: enrol_worker(kind) for kind in Kind}
    others = {kind: enrol_worker(kind) for kind in Kind}
    for a, b in product(Kind, Kind):
        expected = frozenset({a, b}) in PAIRS
        assert bool(service.canCooperate(ones[a], others[b])) is expected, (a, b)
        assert bool(service.canCooperate(others[b], ones[a])) is expected, (b, a)


def test_can_cooperate__with_itself__is_refused(service, enrol_worker):
    gateway = enrol_worker(Kind.GATEWAY)
    assert not service.canCooperate(gateway, gateway)


def test_can_cooperate__never_enrolled__is_refused(service, enrol_worker, device):
    sensor, unknown = enrol_worker(Kind.SENSOR), device().id
    assert not service.canCooperate(sensor, unknown)
    assert not service.canCooperate(unknown, sensor)


@pytest.mark.parametrize("end", ["off", "suspended", "retired"])
def test_can_cooperate__one_side_out__is_refused(end, service, enrol_worker, device_owner, service_owner):
    sensor, processor = enrol_worker(Kind.SENSOR), enrol_worker(Kind.PROCESSOR)
    assert service.canCooperate(sensor, processor)
    if end == "off":
        service.setActive(processor, False, sender=device_owner)
    elif end == "suspended":
        service.setSuspended(processor, True, sender=service_owner)
    else:
        service.retire(processor, sender=device_owner)
    assert not service.canCooperate(sensor, processor)
    assert not service.canCooperate(processor, sensor)


def test_can_cooperate__switched_on_again__is_allowed(service, enrol_worker, device_owner):
    sensor, processor = enrol_worker(Kind.SENSOR), enrol_worker(Kind.PROCESSOR)
    service.setActive(sensor, False, sender=device_owner)
    service.setActive(sensor, True, sender=device_owner)
    assert service.canCooperate(sensor, processor)


def test_can_cooperate__not_accepted_yet__is_refused(service, enrol_worker, pending_worker, device_owner):
    processor = enrol_worker(Kind.PROCESSOR)
    assert not service.canCooperate(pending_worker, processor)
    service.accept(pending_worker, sender=device_owner)
    assert service.canCooperate(pending_worker, processor)
