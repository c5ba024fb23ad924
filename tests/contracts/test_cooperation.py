"""Who may work with whom follows from both sides alone; nothing about it is stored."""

from __future__ import annotations

from itertools import product

import pytest
from mirrors import Flag, Kind, meet


def test_can_cooperate__any_two_kinds__follows_the_matrix(service, enrol_worker):
    workers = [(kind, enrol_worker(kind)) for kind in Kind for _ in range(2)]
    for (kind, a), (other_kind, b) in product(workers, repeat=2):
        expected = a != b and meet(kind, other_kind)
        assert bool(service.canCooperate(a, b)) == expected, (kind, other_kind)


def test_is_usable__any_kind__is_its_own_alone(service, enrol_worker):
    for kind in Kind:
        worker = enrol_worker(kind)
        assert [number for number in (0, *Kind, 6, 255) if service.isUsable(worker, number)] == [kind]


def test_is_usable__never_enrolled__never(service, device):
    unknown = device().id
    assert not any(service.isUsable(unknown, kind) for kind in (0, *Kind))


@pytest.mark.parametrize("unknown_first", [True, False])
def test_can_cooperate__with_an_unknown__is_refused(unknown_first, service, enrol_worker, device):
    pair = [device().id, enrol_worker(Kind.ORACLE)]
    assert not service.canCooperate(*(pair if unknown_first else reversed(pair)))


@pytest.mark.parametrize("end", ["off", "suspended", "retired"])
def test_can_cooperate__one_of_them_stops__severs_both_ways(end, service, enrol_worker, device_owner, service_owner):
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


def test_can_cooperate__not_accepted_yet__is_refused(service, enrol_worker, pending_worker, device_owner, flags):
    processor = enrol_worker(Kind.PROCESSOR)
    assert not service.canCooperate(pending_worker, processor)
    service.accept(pending_worker, sender=device_owner)
    assert flags(pending_worker) == [Flag.ACTIVE]
    assert service.canCooperate(pending_worker, processor)
