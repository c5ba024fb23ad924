"""What Ape says of a refused call, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quietfleet.errors import CallRefused
from quietfleet.owners import sentence


@contextmanager
def spoken() -> Iterator[None]:
    """Turn a revert that Ape has decoded into CallRefused; everything else passes."""
    try:
        yield
    except Exception as error:
        abi, inputs = getattr(error, "abi", None), getattr(error, "inputs", None)
        if abi is None or inputs is None:
            raise
        raise CallRefused(sentence(abi.name, inputs)) from error
