"""The drawings of docs/protocol.md are what the contracts do: every action is tried in every state that can be reached.

`QUIETFLEET_DRAW=1 ape test tests/contracts/test_drawings.py` writes them anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ape.exceptions import ContractLogicError
from configurations import given
from mirrors import DAY, FEE, Device, Flag, Kind, State

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
CHANNEL = b"\x01" * 32


@dataclass
class Explorer:
    """Tries every action in every state, from the first one on, and notes where each leads."""

    chain: Any
    state: Callable[[], str]
    actions: dict[str, Callable[[], Any]]

    def drawing(self) -> str:
        paths: dict[str, list[str]] = {}
        steps: dict[tuple[str, str], list[str]] = {}
        waiting = [[]]
        while waiting:
            path = waiting.pop(0)
            found, reached = self._after(path)
            if found in paths:
                continue
            paths[found] = path
            for action in self.actions:
                then, reached = self._after([*path, action])
                if reached and then != found:
                    steps.setdefault((found, then), []).append(action)
                if reached and then not in paths:
                    waiting.append([*path, action])
        lines = [f"  {a} --> {b}: {', '.join(names)}" for (a, b), names in steps.items()]
        return "\n".join(["```mermaid", "stateDiagram-v2", f"  [*] --> {next(iter(paths))}", *lines, "```"])

    def _after(self, path: list[str]) -> tuple[str, bool]:
        """The state after some actions, and whether the last of them was possible."""
        home = self.chain.snapshot()
        try:
            possible = [self._act(action) for action in path]
            return self.state(), not possible or possible[-1]
        finally:
            self.chain.restore(home)

    def _act(self, action: str) -> bool:
        try:
            self.actions[action]()
        except ContractLogicError:
            return False
        return True


def check(name: str, drawing: str) -> None:
    """Hold a drawing against the page, or put it there."""
    page = PAGE.read_text()
    place = re.compile(rf"(<!-- drawn: {name} -->\n)(.*?)(\n<!-- end -->)", re.DOTALL)
    if os.environ.get("QUIETFLEET_DRAW"):
        PAGE.write_text(place.sub(lambda found: found[1] + drawing + found[3], page))
        return
    found = place.search(page)
    assert found is not None
    assert found[2] == drawing


@pytest.fixture
def wait(chain):
    """Lets seconds pass."""

    def pass_by(seconds):
        chain.mine(1, timestamp=chain.pending_timestamp + seconds)

    return pass_by


def test_drawing__worker__is_what_the_contract_does(chain, service, rich_device, device_owner, service_owner):
    device = Device.of(rich_device)
    names = {
        0: "off",
        Flag.ACTIVE: "on",
        Flag.PENDING: "pending",
        Flag.RETIRED: "retired",
        Flag.SUSPENDED: "off_and_suspended",
    }
    names |= {Flag.ACTIVE | Flag.SUSPENDED: "suspended", Flag.PENDING | Flag.SUSPENDED: "pending_and_suspended"}
    names |= {Flag.RETIRED | Flag.SUSPENDED: "retired"}

    def state():
        found = service.worker(device.id)
        return names[found.flags] if found.kind else "unknown"

    actions = {
        "enrol": lambda: service.enrol(device.enrolment(service, device_owner), sender=device_owner, value=FEE),
        "enrolSelf": lambda: service.enrolSelf(*device.point, Kind.SENSOR, device_owner, sender=rich_device, value=FEE),
        "accept": lambda: service.accept(device.id, sender=device_owner),
        "switch off": lambda: service.setActive(device.id, False, sender=device_owner),
        "switch on": lambda: service.setActive(device.id, True, sender=device_owner),
        "suspend": lambda: service.setSuspended(device.id, True, sender=service_owner),
        "readmit": lambda: service.setSuspended(device.id, False, sender=service_owner),
        "retire": lambda: service.retire(device.id, sender=device_owner),
    }
    check("worker", Explorer(chain, state, actions).drawing())


def test_drawing__configuration__is_what_the_contract_does(chain, service, rotator, wait):
    def state():
        anchor = service.configuration()
        if not anchor.version:
            return "none"
        newest, previous = service.accepts(anchor.digest), service.accepts(anchor.previousDigest)
        return {(0, 0): "first_waits", (0, 1): "next_waits", (1, 1): "grace", (1, 0): "in_force"}[newest, previous]

    actions = {
        "rotate": lambda: service.rotate(given(), sender=rotator),
        "rotate ahead": lambda: service.rotate(given(activeFrom=chain.pending_timestamp + DAY), sender=rotator),
        "rotate at once": lambda: service.rotateAtOnce(given(grace=0), sender=rotator),
        "a day passes": lambda: wait(DAY + 1),
        "a minute passes": lambda: wait(61),
    }
    check("configuration", Explorer(chain, state, actions).drawing())


def test_drawing__release__is_what_the_contract_does(chain, releases, publisher, approver, service_owner, wait):
    manifests = [bytes([number]) * 32 for number in range(1, 9)]

    def head():
        return releases.head(CHANNEL)

    def state():
        found = head()
        name = State(found.state).name.lower()
        return f"{name}_{found.wave}_of_2" if found.state in (State.ROLLING, State.PAUSED) else name

    def propose():
        now = chain.pending_timestamp
        terms = (manifests[head().sequence], b"\x01" * 32, b"\x02" * 32, now - DAY, now + DAY, 0, 2)
        releases.propose(CHANNEL, terms, sender=publisher)

    def newest():
        return next((m for m in manifests if releases.release(CHANNEL, m).sequence == head().sequence), manifests[0])

    def completed():
        return next((m for m in manifests if releases.release(CHANNEL, m).completed and m != newest()), manifests[0])

    actions = {
        "propose": propose,
        "approve": lambda: releases.approve(CHANNEL, head().sequence, newest(), sender=approver),
        "openWave": lambda: releases.openWave(CHANNEL, head().sequence, sender=publisher),
        "pause": lambda: releases.pause(CHANNEL, head().sequence, sender=approver),
        "resume": lambda: releases.resume(CHANNEL, head().sequence, sender=approver),
        "finalise": lambda: releases.finalise(CHANNEL, newest(), 0, (b"\x03" * 32, 1, 0, 0), sender=publisher),
        "rollBack": lambda: releases.rollBack(CHANNEL, completed(), sender=approver),
        "revoke": lambda: releases.revoke(CHANNEL, newest(), sender=approver),
    }
    for name in 2 * ("propose", "approve", "openWave", "openWave", "finalise"):  # something to go back to
        actions[name]()
    check("release", Explorer(chain, state, actions).drawing())
