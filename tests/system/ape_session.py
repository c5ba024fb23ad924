"""Somebody at a terminal without a keyboard: `ape run …` again and again, in one process that has Ape loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

DRIVER = """
import json, sys
from click.testing import CliRunner
from ape._cli import cli

for line in sys.stdin:
    done = CliRunner(mix_stderr=False).invoke(cli, json.loads(line))
    failure = "" if isinstance(done.exception, SystemExit | None) else repr(done.exception)
    said = {"code": done.exit_code, "output": done.stdout, "error": done.stderr + failure}
    print(json.dumps(said), file=sys.__stdout__, flush=True)
"""


@dataclass(frozen=True)
class Answer:
    """What a command printed, and how it ended."""

    code: int
    output: str
    error: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.error
        return json.loads(self.output)


class ApeSession:
    """Runs `ape run` commands one after another; the real command line, without loading Ape for each."""

    def __init__(self, folder, environment, log) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def run(self, *arguments: str) -> Answer:
        self._process.stdin.write(json.dumps(["run", *map(str, arguments)]) + "\n")
        self._process.stdin.flush()
        return Answer(**json.loads(self._process.stdout.readline()))

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()
        self._log.close()
