"""`quietfleet trace X`: the whole story of a model, a release, a device or a run, from why it began to how it went."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from quietfleet.commands._access import JSON, SETTINGS, observed, time_of
from quietfleet.commands._story import Archive, facts
from quietfleet.settings import load_settings

if TYPE_CHECKING:
    from quietfleet.commands._story import Story
    from quietfleet.storage import AuditEntry


@click.command()
@click.argument("subject")
@SETTINGS
@JSON
def trace(subject: str, settings: Path, *, as_json: bool) -> None:
    """Tell what led to SUBJECT and what came of it, from a gateway's own records; no worker is named.

    SUBJECT is a run's id, a version (3 or weather:3), a manifest's hash, release:2, or the pseudonym of a device, which
    gives every run that learned from it. It reads beside the running gateway and asks nobody.
    """
    from quietfleet.workers._runs import Runs  # noqa: PLC0415 - each command loads only what it needs

    channel = load_settings(settings, os.environ).gateway.channel
    with observed(settings) as (catalogue, database):
        found = Archive(database, Runs(database, os.urandom), catalogue, channel).stories(subject)
    if as_json:
        click.echo(json.dumps([story.told() for story in found]))
        return
    console = Console()
    for story in found:
        console.print(_tree(story), soft_wrap=True)


def _tree(story: Story) -> Tree:
    run = story.run
    tree = Tree(f"[bold]run {run.id}[/bold]  {run.state}, tries {run.tries}, {time_of(run.begun)}")
    begun = tree.add("why")
    for line in run.evidence:
        found = line.get("found") or {name: one for name, one in line.items() if name not in {"trigger", "at"}}
        begun.add(escape(f"{time_of(line['at'])}  {line['trigger']}  {facts(found)}".rstrip()))
    _trained(tree, story)
    if story.version is not None:
        _registered(tree, story)
    for sequence, entries in story.releases.items():
        release = tree.add(f"release {sequence} on chain" if sequence else "on its way to the chain")
        _steps(release, entries)
        if story.heard.get(sequence):
            release.add(f"outcomes heard: {story.heard[sequence]}")
        if story.reported.get(sequence):
            release.add(f"reports since of how it does: {story.reported[sequence]}")
        fitted, dropped = story.heads.get(sequence, (0, 0))
        if fitted or dropped:
            release.add(f"heads that processors fitted on it: {fitted}, and let go of: {dropped}")
    return tree


def _trained(tree: Tree, story: Story) -> None:
    for entry in story.trail:
        if entry.kind == "training":
            dataset = tree.add(escape(f"{time_of(entry.at)}  training  {facts(entry.detail, 'newest')}"))
            dataset.add(f"devices: {len(entry.detail['newest'])}")
        elif entry.kind not in {"drift-shared", "run-triggered", "run-asked"}:
            tree.add(escape(f"{time_of(entry.at)}  {entry.kind}  {facts(entry.detail)}"))


def _registered(tree: Tree, story: Story) -> None:
    one = story.version
    if one is None:
        return
    aliases = f", {', '.join(one.aliases)}" if one.aliases else ""
    version = tree.add(escape(f"{one.name} {one.version}  {one.stage}{aliases}  dataset {one.facts.dataset[:16]}"))
    version.add(f"manifest {one.manifest}")
    for move in story.moves:
        meant = move["stage"] or move["alias"]
        agreed = f" with {move['approved_by']}" if move["approved_by"] else ""
        version.add(escape(f"{time_of(move['at'])}  {meant}  by {move['who']}{agreed}: {move['why']}"))


def _steps(release: Tree, entries: list[AuditEntry]) -> None:
    for entry in entries:
        release.add(escape(f"{time_of(entry.at)}  {entry.kind}  {facts(entry.detail)}"))
