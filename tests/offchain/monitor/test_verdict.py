import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.monitor import DeviceEvidence, Finding, FindingKind, PeerDrift, Verdict, judge

STUCK = Finding(FindingKind.STUCK, "temp", 0.0, 1.0, 12)
NEAR = {"temp": PeerDrift(20.0, 70.0)}
APART = {"temp": PeerDrift(90.0, 70.0)}


def device(percent, peer=None, findings=()):
    return DeviceEvidence({"temp": percent}, peer, tuple(findings))


def verdicts(evidence, **options):
    return {name: judged.verdict for name, judged in judge(evidence, **options).devices.items()}


def test_judge__nobody_drifts__is_fine():
    judged = judge({name: device(30, NEAR) for name in "abc"})
    assert {item.verdict for item in judged.devices.values()} == {Verdict.FINE}
    assert not judged.retrain
    assert judged.shared == ()


def test_judge__all_peers_drift__retrains():
    judged = judge({name: device(80, NEAR) for name in "abc"})
    assert judged.retrain
    assert judged.shared == ("temp",)
    assert judged.quarantined == frozenset()


def test_judge__two_of_three_drift__retrains_on_their_account():
    assert verdicts({"a": device(80, NEAR), "b": device(71, NEAR), "c": device(69, NEAR)}) == {
        "a": Verdict.RETRAIN,
        "b": Verdict.RETRAIN,
        "c": Verdict.FINE,
    }


def test_judge__two_of_four_drift__is_not_shared():
    evidence = {"a": device(80, NEAR), "b": device(80, NEAR), "c": device(9, NEAR), "d": device(9, NEAR)}
    assert not judge(evidence).retrain


def test_judge__drastic_but_shared__is_the_world():
    assert judge({name: device(350, NEAR) for name in "abc"}).retrain


def test_judge__one_leaves_its_peers__is_quarantined():
    judged = judge({"a": device(150, APART), "b": device(20, NEAR), "c": device(20, NEAR)})
    assert judged.quarantined == {"a"}
    assert not judged.retrain


def test_judge__one_is_stuck_while_the_others_drift__quarantines_one_and_retrains_for_the_rest():
    assert verdicts({"a": device(80, None, [STUCK]), "b": device(80), "c": device(80)}) == {
        "a": Verdict.QUARANTINE,
        "b": Verdict.RETRAIN,
        "c": Verdict.RETRAIN,
    }


def test_judge__faulty_devices_drift__have_no_vote():
    judged = judge({"a": device(80, None, [STUCK]), "b": device(80, None, [STUCK]), "c": device(20)})
    assert judged.shared == ()
    assert not judged.retrain


def test_judge__stuck_without_drift__is_quarantined_all_the_same():
    assert verdicts({"a": device(10, NEAR, [STUCK])}) == {"a": Verdict.QUARANTINE}


def test_judge__lone_device_drifts__verifies_first_then_retrains():
    assert verdicts({"a": device(90)}) == {"a": Verdict.VERIFY}
    assert verdicts({"a": device(90)}, verified=frozenset("a")) == {"a": Verdict.RETRAIN}


def test_judge__lone_device_drastic_and_verified__retrains():
    assert verdicts({"a": device(900)}, verified=frozenset("a")) == {"a": Verdict.RETRAIN}


def test_judge__one_of_two_drifts__verifies():
    assert verdicts({"a": device(90), "b": device(10)}) == {"a": Verdict.VERIFY, "b": Verdict.FINE}


def test_judge__drift_unshared_but_near_its_peers__is_fine():
    assert verdicts({"a": device(72, NEAR), "b": device(66, NEAR), "c": device(65, NEAR)})["a"] is Verdict.FINE


def test_judge__peers_vouch_for_another_channel_only__verifies():
    wind = {"wind_speed": PeerDrift(1.0, 70.0)}
    assert verdicts({"a": device(90, wind), "b": device(9, wind), "c": device(9, wind)})["a"] is Verdict.VERIFY


def test_judge__anomalous_and_unshared__verifies_even_near_its_peers():
    assert verdicts({"a": device(250, NEAR), "b": device(66, NEAR), "c": device(65, NEAR)})["a"] is Verdict.VERIFY


@pytest.mark.parametrize("kind", list(FindingKind))
def test_judge__any_integrity_finding__quarantines(kind):
    assert verdicts({"a": device(0, None, [Finding(kind, "", 0, 0, 1)])}) == {"a": Verdict.QUARANTINE}


evidence = st.builds(
    device,
    st.floats(0, 400),
    st.none() | st.sampled_from([NEAR, APART]),
    st.sampled_from([(), (STUCK,)]),
)


@given(st.dictionaries(st.sampled_from("abcde"), evidence))
def test_judge__any_site__retrains_only_on_sound_drifted_devices_with_a_witness(site):
    judged = judge(site)
    assert set(judged.devices) == set(site)
    for name, item in judged.devices.items():
        faulty = bool(site[name].findings) or site[name].peer == APART
        assert (item.verdict is Verdict.QUARANTINE) == faulty
        if item.verdict is Verdict.RETRAIN:
            sound = [n for n in site if n not in judged.quarantined and site[n].raw["temp"] >= 70]
            assert site[name].raw["temp"] >= 70
            assert len(sound) >= 2
