"""The loop once, end to end, on real processes; its closing table is checked against chain and journals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from quietfleet.errors import TestbedError
from quietfleet.testbed.founding import found
from quietfleet.testbed.scene import Line, Scene
from quietfleet.testbed.trials import crash, rotate, switch
from quietfleet.testbed.working import drift, lose, meet, ventilate, work

STEPS: Final[dict[str, Callable[[Scene], Awaitable[None]]]] = {
    "a fleet is founded: contracts, consents, fees, first configuration": found,
    "sensors find processors through the Dispatch Oracle": meet,
    "readings flow, recommendations return": work,
    "a forecast moves something, and its device says what came of it": ventilate,
    "the season moves, a needle sticks: drift, quarantine, retrain, release": drift,
    "samples get lost: forecasts go on from what stands in for them": lose,
    "an owner switches a sensor off; it does not listen; on again": switch,
    "the configuration rotates: everyone re-keys": rotate,
    "a processor is killed and resumes": crash,
}


async def tell(scene: Scene) -> list[Line]:
    """Play every act; one that fails ends the story with its line."""
    watching = asyncio.create_task(scene.watch())
    try:
        for title, act in STEPS.items():
            if not await _play(scene, title, act):
                break
        scene.audit()
    finally:
        watching.cancel()
    return scene.lines


async def _play(scene: Scene, title: str, act: Callable[[Scene], Awaitable[None]]) -> bool:
    scene.screen.step(title, "running")
    before = len(scene.lines)
    try:
        await act(scene)
    except TestbedError as error:
        scene.line(title, str(error).splitlines()[0], holds=False)
    good = all(line.holds for line in scene.lines[before:])
    scene.screen.step(title, "done" if good else "failed")
    return good
