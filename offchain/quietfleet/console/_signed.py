"""What devices signed, as their owners have it: in files, and consents in folders of files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from quietfleet.chain.consent import Consent
from quietfleet.chain.new_key import KeyProof
from quietfleet.errors import ConsentInvalid, ProofInvalid


def consents(given: Iterable[Consent | str | Path]) -> list[Consent]:
    """Read consents from files, and from the JSON files of folders; ConsentInvalid names the one that is none."""
    return [consent for one in given for consent in _consents(one)]


def proofs(given: Iterable[KeyProof | str | Path]) -> list[KeyProof]:
    """Read proofs of new keys from files; ProofInvalid names the one that is none."""
    return [one if isinstance(one, KeyProof) else _proof(Path(one)) for one in given]


def _consents(one: Consent | str | Path) -> Iterator[Consent]:
    if isinstance(one, Consent):
        yield one
    elif (path := Path(one)).is_dir():
        yield from map(_consent, sorted(path.glob("*.json")))
    else:
        yield _consent(path)


def _consent(file: Path) -> Consent:
    try:
        return Consent.from_json(file.read_bytes())
    except (OSError, ConsentInvalid) as error:
        raise ConsentInvalid(f"{file}: {error}") from error


def _proof(file: Path) -> KeyProof:
    try:
        return KeyProof.from_json(file.read_bytes())
    except (OSError, ProofInvalid) as error:
        raise ProofInvalid(f"{file}: {error}") from error
