"""What the state machines share: acts at random, exact time, one event for each change, a chain put back at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ape
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

MOSTLY = (True, True, True, False)


def act(
    weight: int = 1, when: Callable[[Any], Any] = lambda _machine: True, **choices: Sequence[Any]
) -> Callable[[Any], Any]:
    """Marks something a machine does: how often, under which condition, and with which arguments to choose from."""

    def mark(method: Any) -> Any:
        method.weight, method.when, method.choices = weight, when, choices
        return method

    return mark


class ContractMachine(RuleBasedStateMachine):
    """The acts are a subclass's; `run` brings the chain, the contract and the accounts.

    Which act comes next is left to a plain generator that Hypothesis seeds: its own draws are made for thousands of
    runs, and repeat themselves too much in the few that a chain allows.
    """

    chain: Any = None
    contract: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.home = self.chain.snapshot()
        self.time = self.chain.pending_timestamp + 10
        self.acts = [method for name in dir(type(self)) if hasattr(method := getattr(type(self), name), "choices")]

    @initialize(random=st.randoms(use_true_random=True))
    def begin(self, random: Any) -> None:
        self.random = random
        self.prepare()

    def prepare(self) -> None:
        """What is done before anything is left to chance."""

    @rule()
    def step(self) -> None:
        possible = [method for method in self.acts if method.when(self)]
        (method,) = self.random.choices(possible, [method.weight for method in possible])
        chosen = {name: self.random.choice(values) for name, values in method.choices.items()}
        note(f"{method.__name__} {chosen}")
        method(self, **chosen)

    def teardown(self) -> None:
        self.check()
        self.chain.restore(self.home)

    def check(self) -> None:
        """Asserts, at the end of a run, that model, events and storage agree."""
        raise NotImplementedError

    def attempt(self, error: str | None, name: str, *arguments: Any, sender: Any, value: int = 0) -> Any:
        """Makes the call a second after the last one. It reverts with the named error, or leaves one event."""
        self.time += 1
        self.chain.pending_timestamp = self.time
        call = getattr(self.contract, name)
        if error is None:
            (event,) = call(*arguments, sender=sender, value=value).events
            return event
        with ape.reverts(getattr(self.contract, error)):
            call(*arguments, sender=sender, value=value)
        return None


def run(machine: type[ContractMachine], examples: int, steps: int, **world: Any) -> None:
    run_state_machine_as_test(
        type("Machine", (machine,), world),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
