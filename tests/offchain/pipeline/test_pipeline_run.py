import pytest

from quietfleet.errors import DataRejected
from quietfleet.pipeline.decision import RedeployRule, decide
from quietfleet.pipeline.run import run_pipeline
from quietfleet.pipeline.runtime import load_model

RULE = RedeployRule(degrade_above=1.2, accept_below=2.0, margin=0.1)


@pytest.mark.parametrize(
    ("candidate", "champion", "deploy"),
    [
        (1.0, 1.5, True),
        (1.0, 1.2, False),  # the champion is not degraded
        (2.0, 3.0, False),  # better, but not good enough
        (1.4, 1.5, False),  # better, but not clearly
        (1.35, 1.5, False),  # exactly at the margin
        (1.6, 1.5, False),
        (1.0, None, True),
        (2.5, None, False),
        (float("nan"), 1.5, False),
        (1.0, float("nan"), False),
    ],
)
def test_decide__three_conditions__must_all_hold(candidate, champion, deploy):
    assert decide(candidate, champion, rule=RULE).deploy is deploy


def test_decide__either_way__says_why():
    assert "replaces" in decide(1.0, 1.5).reason
    assert "still within" in decide(1.0, 1.1).reason


def test_run__spring_after_a_january_model__yields_a_model_to_deploy(readings, candidate, forecast):
    champion = load_model(candidate.manifest, candidate.artifact, candidate.manifest_hash)
    spring = run_pipeline(readings((3, 20), (3, 31)), forecast, seed=1, now=1.0, champion=champion, parent=1)
    assert spring.evaluation.rmse < spring.evaluation.champion_rmse < spring.evaluation.persistence_rmse
    assert decide(spring.evaluation.rmse, spring.evaluation.champion_rmse).deploy
    model = load_model(spring.manifest, spring.artifact, spring.manifest_hash)
    assert model.manifest["parent"] == 1


def test_run__progress_is_wanted__hears_every_step_in_order(readings, forecast):
    told = []
    run_pipeline(
        readings((1, 1), (1, 15)), forecast, seed=1, now=1.0, progress=lambda stage, _share: told.append(stage)
    )
    assert list(dict.fromkeys(told)) == ["ingest", "train", "search", "personalise", "evaluate", "package", "done"]


def test_run__too_little_data__is_refused(readings, forecast):
    with pytest.raises(DataRejected):
        run_pipeline(readings((1, 1), (1, 3)), forecast, seed=1, now=1.0)
