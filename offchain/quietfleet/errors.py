"""Every error this package raises on purpose; a class's docstring is the sentence its reader sees."""

from __future__ import annotations

import inspect


class QuietfleetError(Exception):
    """Something went wrong in Quietfleet."""

    def __str__(self) -> str:
        detail = super().__str__()
        sentence = inspect.cleandoc(type(self).__doc__ or "")
        return f"{sentence} ({detail})" if detail else sentence


class SettingsError(QuietfleetError):
    """The settings cannot be used: correct the file or variable named here."""
