"""What the console's objects have in common: they name their verbs, and answer a wrong one with a sentence."""

from __future__ import annotations

from difflib import get_close_matches
from typing import ClassVar, NoReturn

from quietfleet.errors import UnknownVerb


class Verbs:
    """An object of the console; its public methods are the verbs."""

    called: ClassVar[str]  # what it goes by in the console
    about: str  # what it speaks for

    def __dir__(self) -> list[str]:
        inherited = (vars(base).items() for base in type(self).__mro__[:-1])
        return sorted({name for own in inherited for name, value in own if callable(value) and name[0] != "_"})

    def __repr__(self) -> str:
        return f"{self.called}: {self.about}. Its verbs: {', '.join(dir(self))}. help({self.called}.<verb>) explains."

    def __getattr__(self, verb: str) -> NoReturn:
        if verb.startswith("_"):  # what Python and the console look for in any object
            raise AttributeError(verb)
        near = get_close_matches(verb, dir(self), n=1)
        meant = f"did you mean {self.called}.{near[0]}?" if near else f"there are {', '.join(dir(self))}"
        raise UnknownVerb(f"{self.called}.{verb}: {meant}")
