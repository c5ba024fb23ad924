"""The pipeline in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from quietfleet.pipeline.choices import Personal
from quietfleet.pipeline.evaluate import Evaluation, evaluate
from quietfleet.pipeline.ingest import Dataset, Reading, ingest
from quietfleet.pipeline.package import Package, package
from quietfleet.pipeline.personalise import personalise
from quietfleet.pipeline.project import Project
from quietfleet.pipeline.report import Report, compose
from quietfleet.pipeline.rival import Champion, against, same_task
from quietfleet.pipeline.train import Memory, Progress, Stop, samples, split, train


@dataclass(frozen=True, slots=True)
class Candidate:
    """A packaged model with its evaluation; `report` is plain, for the audit trail and the dashboard.

    `findings` are what an engineer looks at, and `personal` are the models of single devices, if the project wants any:
    both name devices, and stay where the data is. `model` is the fitted scikit-learn pipeline.
    """

    package: Package
    evaluation: Evaluation
    report: dict[str, Any]
    findings: Report
    personal: Personal | None = None
    model: Any = None

    @property
    def manifest(self) -> bytes:
        """Canonical JSON, what devices verify."""
        return self.package.manifest

    @property
    def artifact(self) -> bytes:
        """ONNX bytes."""
        return self.package.artifact

    @property
    def manifest_hash(self) -> bytes:
        """Keccak-256 of the manifest, what goes on chain."""
        return self.package.manifest_hash


def run_pipeline(
    readings: Iterable[Reading],
    project: Project,
    *,
    seed: int,
    now: float,
    champion: Champion | None = None,
    parent: int | None = None,
    sites: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    jobs: int = 1,
    dask: str = "",
) -> Candidate:
    """Ingest, train, evaluate and package; raises a `PipelineError` naming the step that failed.

    `champion` is the model in production, `parent` its release sequence; `sites` are the devices' places; `progress`
    hears of every step; `jobs` and `dask` as for `learn`.
    """
    tell = progress or (lambda _stage, _share: None)
    tell("ingest", 0.0)
    dataset = ingest(readings, project, sites=sites)
    return learn(
        dataset,
        project,
        seed=seed,
        now=now,
        champion=champion,
        parent=parent,
        progress=progress,
        jobs=jobs,
        dask=dask,
    )


def learn(
    dataset: Dataset,
    project: Project,
    *,
    seed: int,
    now: float,
    champion: Champion | None = None,
    parent: int | None = None,
    progress: Progress | None = None,
    stopped: Stop | None = None,
    memory: Memory | None = None,
    jobs: int = 1,
    dask: str = "",
) -> Candidate:
    """Train, evaluate and package, from a dataset that was named before: `run_pipeline` without its first step.

    `jobs` and `dask` say who fits the devices' own models, as `personalise` has it.
    """
    tell = progress or (lambda _stage, _share: None)
    learning, held_out = split(samples(dataset, project.features), project)
    tell("train", 0.2)
    trained = train(learning, project, seed=seed, progress=progress, stopped=stopped, memory=memory)
    personal = None
    if project.personal:
        personal = personalise(
            learning,
            held_out,
            project,
            trained,
            seed=seed,
            progress=progress,
            stopped=stopped,
            memory=memory,
            jobs=jobs,
            dask=dask,
        )
    tell("evaluate", 0.7)
    rival = None
    if champion is not None and same_task(champion.features, project.features):
        held_out, rival = against(champion, dataset, held_out)
    evaluation = evaluate(trained.model.predict, held_out, champion=rival)
    findings = compose(project, dataset, trained, len(learning), held_out, evaluation, rival, personal)
    tell("package", 0.8)
    packaged = package(project, trained, evaluation, held_out, dataset, created_at=now, parent=parent)
    tell("done", 1.0)
    report = _report(dataset, evaluation, packaged, personal)
    return Candidate(packaged, evaluation, report, findings, personal, trained.model)


def _report(dataset: Dataset, evaluation: Evaluation, packaged: Package, personal: Personal | None) -> dict[str, Any]:
    own = {"personal": personal.summary()} if personal else {}
    return {
        **own,
        "dataset": dataset.id,
        "lineage": dict(dataset.lineage),
        "metrics": evaluation.to_plain(),
        "manifest_hash": "0x" + packaged.manifest_hash.hex(),
        "artifact_bytes": len(packaged.artifact),
    }
