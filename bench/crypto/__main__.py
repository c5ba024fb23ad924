"""`python -m bench.crypto`: sealing, opening and proof of work beside the field's own, in one run.

--update writes bench/results/crypto.json and the report, --json prints the results as JSON.
"""

from __future__ import annotations

import json
from typing import Any, Final

import click
from bench import report
from bench.crypto.measuring import costs, messages, mined, mined_by_peer, timed
from bench.peer import Process, node_script, versions
from bench.showing import show

from quietfleet.whisper import fastest_search, search_plain

MESSAGES_GOAL: Final = 5.0
MINING_GOAL: Final = 2.5
ENVELOPES: Final = {300: "Whisper's smallest", 560: "our smallest", 2096: "our next"}
"""Bytes of RLP that a nonce is sought for: 256, 512 and 2,048 bytes of padded plaintext, sealed."""
_MICRO: Final = 1e6


@click.command(help=__doc__)
@click.option("--rounds", default=7, show_default=True, help="How often each is measured.")
@click.option("--update", is_flag=True, help="Renew the results.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def main(rounds: int, update: bool, as_json: bool) -> None:
    with Process(node_script("crypto.mjs")) as peer:
        rows = [_message(message, peer, rounds) for message in messages()]
        mining = [row for size in ENVELOPES for row in _mining(size, peer, rounds)]
    result = _result(rows, mining)
    if update:
        report.write("crypto", result)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        show(result)
        click.echo("\n".join(result["about"]))


def _message(message: Any, peer: Process, rounds: int) -> list[Any]:
    ours, theirs = costs([timed(message.ours()), message.peer(peer)], rounds)
    what = f"{message.op} {message.mode}{', signed' if message.signed else ''}"
    return [what, message.size, ours * _MICRO, theirs * _MICRO, theirs / ours]


def _mining(size: int, peer: Process, rounds: int) -> list[list[Any]]:
    """Return a row for each way of ours: hashes a CPU-second, beside hash-wasm, and with the same trick."""
    ways = {"no compiler": search_plain} | ({} if fastest_search() is search_plain else {"numba": fastest_search()})
    ours = [mined(search, size) for search in ways.values()]
    theirs = [mined_by_peer(peer, size, kept=kept) for kept in (False, True)]
    *own, whole, kept = (1 / cost / _MICRO for cost in costs([*ours, *theirs], rounds))
    return [[name, size, rate, whole, rate / whole, kept, rate / kept] for name, rate in zip(ways, own, strict=True)]


def _result(rows: list[list[Any]], mining: list[list[Any]]) -> dict[str, Any]:
    return {
        "title": "Crypto: sealing, opening and proof of work beside the field",
        "about": [
            (
                "CPU time of the whole process, medians of rounds in which both sides take turns. The same payload in, "
                "the same format out (26/WAKU2-PAYLOAD version 1), which a test opens both ways."
            ),
            f"The field's: {versions('@waku/message-encryption', 'hash-wasm')}.",
            (
                "Proof of work: nonces in order, over an envelope of so many bytes, the best digest kept. Ours hashes "
                "what all nonces share only once; the last columns let hash-wasm do that too."
            ),
            _verdict("Messages", MESSAGES_GOAL, [row[4] for row in rows]),
            *(
                _verdict(f"Proof of work with no compiler, {size} bytes ({which})", MINING_GOAL, [ratio])
                for (size, which), ratio in zip(ENVELOPES.items(), _plain_ratios(mining), strict=True)
            ),
        ],
        "tables": [
            {
                "title": "Messages, µs of CPU",
                "columns": ["operation", "bytes", "ours", "@waku/message-encryption", "ratio"],
                "rows": [_rounded(row) for row in rows],
            },
            {
                "title": "Proof of work, million hashes a CPU-second",
                "columns": ["ours by", "bytes", "ours", "hash-wasm", "ratio", "with kept state", "ratio"],
                "rows": [_rounded(row) for row in mining],
            },
        ],
    }


def _rounded(row: list[Any]) -> list[Any]:
    return [round(value, 2) if isinstance(value, float) else value for value in row]


def _plain_ratios(mining: list[list[Any]]) -> list[float]:
    return [row[4] for row in mining if row[0] == "no compiler"]


def _verdict(what: str, goal: float, ratios: list[float]) -> str:
    word = "holds" if min(ratios) >= goal else "missed"
    span = f"{min(ratios):.1f}" + (f" to {max(ratios):.1f}" if len(ratios) > 1 else "")
    return f"{what}: {span} times the field's speed; goal {goal:.1f}: {word}."


if __name__ == "__main__":
    main()
