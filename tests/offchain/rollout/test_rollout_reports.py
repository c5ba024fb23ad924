from __future__ import annotations

import msgspec
import pytest

from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.rollout import Outcome, OutcomeReport, Reason, report_root

KEY, OTHER = PrivateKey.from_bytes(keccak256(b"device")), PrivateKey.from_bytes(keccak256(b"other"))
REPORT = OutcomeReport(b"\1" * 32, 3, b"\2" * 32, Outcome.COMMITTED, compared=9, ratio=0.98, at=12)


def test_signed__by_the_device__is_its_own_and_nobody_elses():
    signed = REPORT.signed(KEY)
    assert signed.by(KEY.public.id)
    assert not signed.by(OTHER.public.id)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(signed), type=type(signed)) == signed


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 4},
        {"channel": bytes(32)},
        {"pseudonym": bytes(32)},
        {"outcome": Outcome.ROLLED_BACK},
        {"reason": Reason.SHADOW},
        {"ratio": 0.5},
        {"at": 13},
    ],
)
def test_signed__anything_changed_or_moved_to_another_release__signed_by_nobody_known(change):
    forged = msgspec.structs.replace(REPORT.signed(KEY), report=msgspec.structs.replace(REPORT, **change))
    assert not forged.by(KEY.public.id)


@pytest.mark.parametrize("signature", [bytes(65), b"\xff" * 65, bytes(10)])
def test_signed__garbage_for_a_signature__signed_by_nobody(signature):
    assert not msgspec.structs.replace(REPORT.signed(KEY), signature=signature).by(KEY.public.id)


def test_report_root__any_order__the_same_and_any_change_another():
    reports = [msgspec.structs.replace(REPORT, sequence=number).signed(KEY) for number in range(5)]
    root = report_root(reports)
    assert root == report_root(reversed(reports))
    assert root != report_root(reports[1:])
    assert root != report_root([*reports[1:], REPORT.signed(OTHER)])
    assert report_root([]) == bytes(32)
