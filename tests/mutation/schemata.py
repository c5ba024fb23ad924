"""All mutants of the contracts in one compilation: each is a branch that one number, the block's coinbase, switches on.

Compiling takes longer than testing, so every mutant is compiled at once (mutant schemata): an expression `e` becomes
`(_mutant(7) ? e' : e)`, a statement `s` becomes `if (!_mutant(8)) { s }`. With coinbase 0 the contracts behave as
written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Node = dict[str, Any]

SWITCH = "MutantSwitch.sol"
SWITCH_SOURCE = """// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

function _mutant(uint256 number) view returns (bool) {
    return uint160(address(block.coinbase)) == number;
}
"""
GUARD = "onlyOwner"
GUARD_SOURCE = """
    modifier ownedUnlessMutant(uint256 number) {
        if (!_mutant(number)) _checkOwner();
        _;
    }
"""
"""A modifier cannot be chosen between; this one stands for it, in the contract every other inherits."""

OPERATORS = {
    "+": ["-"],
    "-": ["+"],
    "*": ["+"],
    "<": ["<=", ">"],
    "<=": ["<", ">="],
    ">": [">=", "<"],
    ">=": [">", "<="],
    "==": ["!="],
    "!=": ["=="],
    "&&": ["||"],
    "||": ["&&"],
    "|": ["&"],
    "&": ["|"],
    "^": ["|"],
}
CONSTANTS = {  # each becomes another of its group
    "ACTIVE": "PENDING",
    "SUSPENDED": "ACTIVE",
    "PENDING": "ACTIVE",
    "RETIRED": "PENDING",
    "SWITCH_OFF": "SWITCH_ON",
    "SWITCH_ON": "SWITCH_OFF",
    "REPLACE_KEY": "SWITCH_OFF",
    "PROPOSED": "APPROVED",
    "APPROVED": "PROPOSED",
    "ROLLING": "PAUSED",
    "PAUSED": "ROLLING",
    "COMPLETED": "ROLLING",
    "REVOKED": "COMPLETED",
    "FLAG_COMPLETED": "FLAG_REVOKED",
    "FLAG_REVOKED": "FLAG_COMPLETED",
}
NEIGHBOURS = {"0": "1", "1": "2"}


@dataclass
class Mutant:
    """One change: what stands where, and what would stand there instead."""

    number: int
    file: str
    line: int
    scope: str
    before: str
    after: str

    @property
    def key(self) -> str:
        """What names the mutant from one run to the next, whatever moved around it."""
        squeeze = re.compile(r"\s+")
        return f"{self.file} {self.scope}: {squeeze.sub(' ', self.before)} -> {squeeze.sub(' ', self.after)}"


@dataclass
class Edit:
    """The alternatives of one place: expressions are chosen between, statements left out."""

    start: int
    end: int
    statement: bool
    before: str
    alternatives: list[tuple[Mutant, str]] = field(default_factory=list)


class Source:
    """One contract file and the places to change in it."""

    def __init__(self, path: Path, name: str, tree: Node) -> None:
        self.name = name
        self.text = path.read_bytes()
        self.edits: dict[tuple[int, int], Edit] = {}
        self._scope = ""
        self._visit(tree, constant=False)

    def number(self, first: int, dropped: set[str]) -> list[Mutant]:
        """Give the mutants their numbers, from `first` on, without those that do not compile."""
        kept = []
        for edit in sorted(self.edits.values(), key=lambda one: one.start):
            edit.alternatives = [(m, text) for m, text in edit.alternatives if f"{m.key}@{edit.start}" not in dropped]
            for mutant, _ in edit.alternatives:
                mutant.number = first + len(kept)
                kept.append(mutant)
        return kept

    def place(self, mutant: Mutant) -> str:
        """Name a mutant's place in this very text."""
        return next(f"{mutant.key}@{e.start}" for e in self.edits.values() for m, _ in e.alternatives if m is mutant)

    def instrumented(self) -> str:
        """Return the source with every mutant in it."""
        depth = self.name.count("/")
        body = self._render(0, len(self.text))
        body = re.sub(r"\bpure\b", "view", body)
        body = re.sub(r"(abstract contract StandingOwner is \w+ \{)", rf"\1{GUARD_SOURCE}", body)
        pragma = body.index("pragma solidity")
        end = body.index("\n", pragma) + 1
        where = "../" * depth if depth else "./"
        return f'{body[:end]}\nimport {{_mutant}} from "{where}{SWITCH}";\n{body[end:]}'

    def _render(self, start: int, end: int) -> str:
        inside = [e for e in self.edits.values() if e.alternatives and start <= e.start and e.end <= end]
        inside = [e for e in inside if (e.start, e.end) != (start, end)]
        outermost = [e for e in inside if not any(o is not e and o.start <= e.start and e.end <= o.end for o in inside)]
        pieces, at = [], start
        for edit in sorted(outermost, key=lambda one: one.start):
            pieces += [self._raw(at, edit.start), self._branch(edit)]
            at = edit.end
        return "".join([*pieces, self._raw(at, end)])

    def _branch(self, edit: Edit) -> str:
        inner = self._render(edit.start, edit.end)
        if edit.statement:
            (mutant, _), *_ = edit.alternatives
            if edit.before == GUARD:
                return f"ownedUnlessMutant({mutant.number})"
            return f"if (!_mutant({mutant.number})) {{ {inner} }}"
        for mutant, text in reversed(edit.alternatives):
            inner = f"(_mutant({mutant.number}) ? {text} : {inner})"
        return inner

    def _raw(self, start: int, end: int) -> str:
        return self.text[start:end].decode()

    def _span(self, node: Node) -> tuple[int, int]:
        start, length, _ = (int(part) for part in node["src"].split(":"))
        return start, start + length

    def _of(self, node: Node) -> str:
        return self._raw(*self._span(node))

    def _visit(self, node: Any, *, constant: bool) -> None:
        if isinstance(node, list):
            for one in node:
                self._visit(one, constant=constant)
            return
        if not isinstance(node, dict):
            return
        kind = node.get("nodeType")
        if kind in {"ImportDirective", "UsingForDirective", "EventDefinition", "ErrorDefinition", "StructDefinition"}:
            return
        if kind in {"FunctionDefinition", "ModifierDefinition"}:
            self._scope = node["name"] or node["kind"]
        constant = constant or (kind == "VariableDeclaration" and bool(node.get("constant")))
        if not constant and kind:
            for start, end, statement, after in self._changes(node, kind):
                self._add(start, end, statement=statement, after=after)
        for child in node.values():
            if isinstance(child, dict | list):
                self._visit(child, constant=constant)

    def _add(self, start: int, end: int, *, statement: bool, after: str) -> None:
        edit = self.edits.setdefault((start, end), Edit(start, end, statement, self._raw(start, end)))
        if any(text == after for _, text in edit.alternatives):
            return
        line = self.text[:start].count(b"\n") + 1
        mutant = Mutant(0, self.name, line, self._scope, self._raw(start, end), after)
        edit.alternatives.append((mutant, after))

    def _changes(self, node: Node, kind: str) -> Iterator[tuple[int, int, bool, str]]:
        start, end = self._span(node)
        match kind:
            case "BinaryOperation":
                yield from ((start, end, False, f"({after})") for after in self._operations(node))
            case "IfStatement" | "Conditional":
                yield from self._negation(node["condition"])
            case "UnaryOperation" if node["operator"] == "!":
                yield start, end, False, f"({self._of(node['subExpression'])})"
            case "Return" if _is_bool(node.get("expression")):
                yield from self._negation(node["expression"])
            case "EmitStatement":
                yield start, end + 1, True, ""
            case "ExpressionStatement":
                yield from self._statement(node["expression"], start, end)
            case _:
                yield from self._exchange(start, end)

    def _exchange(self, start: int, end: int) -> Iterator[tuple[int, int, bool, str]]:
        text = self._raw(start, end)
        if text == GUARD:
            yield start, end, True, ""
        elif text == "msg.sender" or text in CONSTANTS:
            yield start, end, False, CONSTANTS.get(text, "tx.origin")

    def _negation(self, condition: Node) -> Iterator[tuple[int, int, bool, str]]:
        """A comparison has its opposite among its operators already, and so has a negation."""
        if condition.get("operator") not in {"==", "!=", "!"}:
            start, end = self._span(condition)
            yield start, end, False, f"!({self._raw(start, end)})"

    def _operations(self, node: Node) -> Iterator[str]:
        left, right = self._of(node["leftExpression"]), self._of(node["rightExpression"])
        for other in OPERATORS.get(node["operator"], []):
            yield f"({left}) {other} ({right})"
        if right in NEIGHBOURS and node["operator"] in {"+", "-", "==", "!=", "<", "<=", ">", ">="}:
            yield f"({left}) {node['operator']} {NEIGHBOURS[right]}"

    def _statement(self, expression: Node, start: int, end: int) -> Iterator[tuple[int, int, bool, str]]:
        kind = expression["nodeType"]
        deletes = kind == "UnaryOperation" and expression["operator"] == "delete"
        called = self._of(expression["expression"]) if kind == "FunctionCall" else ""
        if kind == "Assignment" and "storage pointer" in expression["leftHandSide"]["typeDescriptions"]["typeString"]:
            return  # the compiler insists on it
        if kind == "Assignment" or deletes or called:
            yield start, end + 1, True, ""  # the semicolon is not part of the node


def _is_bool(expression: Node | None) -> bool:
    return expression is not None and expression["typeDescriptions"]["typeString"] == "bool"
