"""One run of everything, and what it says about each operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from bench.gas import compiling, field
from bench.gas.chain import Chain, Measured
from bench.gas.confirming import confirm
from bench.gas.costs import TRANSACTION_CAP, Item, solidity, total, transaction_items
from bench.gas.floors import AUDIT, NO_CEILING, RELEASES, SERVICE, VIEWS
from bench.gas.operations import ReleasesRun, ServiceRun, anchor
from eth_typing import ABIFunction
from eth_utils.abi import function_abi_to_4byte_selector

from quietfleet.testbed.anvil import Anvil

CEILING: Final = 1.10
GROWTH: Final = 0.01
"""How far an operation may lie above the committed snapshot."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of ours: its gas, the items of its floor, and what the same by hand used, which has no `codec`."""

    name: str
    gas: int
    needed: tuple[Item, ...]
    codec: tuple[Item, ...] = ()
    by_hand: int | None = None

    @property
    def items(self) -> tuple[Item, ...]:
        """All items of the floor."""
        return (*self.codec, *self.needed)

    @property
    def floor(self) -> int:
        """What the items cost together."""
        return total(self.items)

    @property
    def confirmation(self) -> float | None:
        """How many times its floor the hand-written contract costs."""
        return None if self.by_hand is None else self.by_hand / total(self.needed)

    @property
    def ratio(self) -> float:
        """How many times its floor the operation costs."""
        return self.gas / self.floor


@dataclass(frozen=True, slots=True)
class Run:
    """Everything measured."""

    operations: tuple[Operation, ...]
    beside: Mapping[str, int]

    def faults(self, snapshot: Mapping[str, int]) -> list[str]:
        """Return what is wrong: above the ceiling, grown beyond the snapshot, above the cap of a transaction."""
        return [fault for operation in self.operations for fault in _faults(operation, snapshot.get(operation.name))]


def measure() -> Run:
    """Deploy everything on a chain of its own and measure every operation."""
    contracts = compiling.compile_all()
    with Anvil() as node:
        chain = Chain(node, contracts)
        service = ServiceRun(chain)
        service.run()
        releases = ReleasesRun(chain, service)
        releases.run()
        service.views(releases.gateway)
        anchor(chain, releases.publisher)
        by_hand = confirm(chain, service, releases)
        ours = dict(chain.measured)
        field.run(chain)
    places = _places(contracts["Service"]["abi"]) | _places(contracts["ModelReleases"]["abi"])
    beside = {name: one.gas for name, one in chain.measured.items() if name not in ours}
    return Run(tuple(_operation(one, places, by_hand.get(one.name)) for one in ours.values()), beside)


def _operation(measured: Measured, places: Mapping[bytes, tuple[int, int]], by_hand: int | None) -> Operation:
    needed = (SERVICE | RELEASES | AUDIT | VIEWS)[measured.name]
    if measured.view:
        return Operation(measured.name, measured.gas, needed, (solidity(*places[measured.data[:4]]),), by_hand)
    return Operation(measured.name, measured.gas, (*transaction_items(measured.data), *needed), by_hand=by_hand)


def _places(abi: list[dict[str, Any]]) -> dict[bytes, tuple[int, int]]:
    functions = cast("list[ABIFunction]", [entry for entry in abi if entry["type"] == "function"])
    functions.sort(key=function_abi_to_4byte_selector)
    return {
        function_abi_to_4byte_selector(one): (place, len(one["inputs"])) for place, one in enumerate(functions, start=1)
    }


def _faults(operation: Operation, before: int | None) -> list[str]:
    name, gas = operation.name, operation.gas
    faults = []
    if operation.ratio > CEILING and name not in NO_CEILING:
        faults.append(f"{name}: {gas:,} gas is {operation.ratio:.3f} times its floor of {operation.floor:,}")
    if before is None:
        faults.append(f"{name}: not in the snapshot")
    elif gas > before * (1 + GROWTH):
        faults.append(f"{name}: {gas:,} gas, {gas / before - 1:.1%} more than the snapshot's {before:,}")
    if gas > TRANSACTION_CAP:
        faults.append(f"{name}: {gas:,} gas is more than one transaction may use ({TRANSACTION_CAP:,})")
    return faults
