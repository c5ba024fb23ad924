"""What stands in a file, column by column: separators, encodings, spellings of dates, headers that lack a name."""

from __future__ import annotations

import codecs
import csv
import gzip
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from quietfleet.errors import MonitorError
from quietfleet.monitor.drift import Array

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

_TEXT: Final = (".csv", ".tsv", ".txt", ".gz")
_MARKS: Final = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8"))
_SEPARATORS: Final = (",", ";", "\t", "|")
_HEAD: Final = 64 * 1024  # bytes that tell how a file is laid out
_LINES: Final = 50
_UNNAMED: Final = "row"
_DATES: Final = (
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%Y/%m/%d",
    "%m/%d/%y",
    "%d-%b-%Y",
    "%d %b %Y",
    "%b %d %Y",
    "%b %d, %Y",
)
_OF_DAY: Final = ("%H:%M:%S", "%H:%M", "%H.%M.%S", "%I:%M:%S %p", "%I:%M %p")
_SPELLINGS: Final = (*(f"{date} {time}".strip() for date in _DATES for time in (*_OF_DAY, "")), *_OF_DAY)
"""Of dates and times of day that DuckDB takes for text."""
_CANDIDATES: Final = ["BOOLEAN", "BIGINT", "DOUBLE", "TIME", "VARCHAR"]
"""What DuckDB may see in text: of two readings of a date it would take one and not say so."""
_DAY: Final = r"^\s*\d{4}[-/]\d{1,2}[-/]\d{1,2}\s*$"
_ZONE: Final = r"(Z|UTC|GMT|\d[+-]\d\d(:?\d\d)?)\s*$"
_DATED: Final = re.compile(r"\s*\d{1,4}[-/.:]\d|\s*\d{1,2}[ -][A-Z][a-z]{2}[ -]\d|\s*[A-Z][a-z]{2} \d{1,2},? \d{4}")
_SPAN: Final = re.compile(r"\s*-\s*\d{1,2}:\d{2}$")
"""The end of an hour that is told by both its ends."""
_SAID: Final = {"%d/%m": "day/month", "%m/%d": "month/day"}
_LOOKED_AT: Final = 200
WHOLE: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINY", "USMALL", "UINT", "UBIG")
_NUMBERS: Final = (*WHOLE, "FLOAT", "DOUBLE", "DECIMAL")
_MOSTLY: Final = 0.95
_JUDGED: Final = 1000  # values that tell whether text is numbers
_NUMBER: Final = re.compile(r"\s*([-+]?[\d.,]*\d(?:[eE][-+]?\d+)?)\s*([^\d\s.,-]\S{0,7})?\s*")


class Table:
    """The columns of a file, as they came; `MonitorError` if there are no rows."""

    def __init__(self, columns: Mapping[str, tuple[str, Sequence[Any]]], notes: Sequence[str] = ()) -> None:
        self.columns = columns
        self.notes = tuple(notes)
        self.length = len(next(iter(columns.values()))[1]) if columns else 0
        if not self.length:
            raise MonitorError("the file holds no rows")

    def distinct(self) -> int:
        """How many rows there are, each counted once."""
        return len(set(zip(*(values for _, values in self.columns.values()), strict=True)))

    def kind(self, name: str) -> str:
        return self.columns[name][0]

    def is_number(self, name: str) -> bool:
        return self.kind(name).startswith(_NUMBERS)

    def numbers(self, name: str) -> Array:
        """A column as numbers, NaN where there is none; decimal commas are read."""
        values = self.columns[name][1]
        if self.kind(name).startswith("VARCHAR"):
            read = [_number(value) if value else None for value in values]
            return np.array([math.nan if one is None else one[0] for one in read], dtype=np.float64)
        return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)

    def is_numeric_text(self, name: str) -> bool:
        """Whether nearly all of a column is numbers, with one unit behind them or none."""
        known = [value for value in self.columns[name][1] if value is not None and value.strip()][:_JUDGED]
        units = Counter(read[1] for read in map(_number, known) if read is not None)
        return bool(known) and max(units.values(), default=0) >= _MOSTLY * len(known)

    def is_empty(self, name: str) -> bool:
        """Whether there is nothing in a column."""
        return all(value is None or (isinstance(value, str) and not value.strip()) for value in self.columns[name][1])

    def text(self, name: str) -> list[str]:
        return ["" if value is None else str(value) for value in self.columns[name][1]]

    def named(self, names: Iterable[str]) -> list[str]:
        """Columns with one of these names, the first first, whatever their case."""
        folded = {name.strip(" _").lower().replace(" ", "_"): name for name in reversed(list(self.columns))}
        return [folded[name] for name in names if name in folded]


def read_table(path: Path) -> Table:
    """Read a CSV or Parquet file; `MonitorError` says why it cannot be read."""
    import duckdb  # noqa: PLC0415 - sensors and processors do without

    with duckdb.connect(":memory:") as connection:
        connection.execute("SET threads = 1; SET TimeZone = 'UTC'")
        try:
            relation = _opened(connection, path)
            kinds = list(zip(relation.columns, map(str, relation.types), strict=True))
            kinds = [(name, _dated(relation, name) if kind == "VARCHAR" else kind) for name, kind in kinds]
            chosen = [_asked(name, kind) for name, kind in kinds]
            rows = relation.project(", ".join(chosen)).fetchall()
        except duckdb.Error as error:
            raise MonitorError(f"{path.name}: {str(error).splitlines()[0]}") from error
    lines = list(zip(*rows, strict=True)) if rows else [()] * len(kinds)
    notes: list[str] = []
    columns = {name: _moments(name, kind, line, notes) for (name, kind), line in zip(kinds, lines, strict=True)}
    return Table(columns, notes)


def _opened(connection: DuckDBPyConnection, path: Path) -> DuckDBPyRelation:
    if path.suffix.lower() == ".parquet":
        return connection.sql("SELECT * FROM read_parquet(?)", params=[str(path)])
    if path.suffix.lower() not in _TEXT:
        raise MonitorError(f"{path.name} is neither .csv nor .parquet")
    layout = {"sample_size": -1, "auto_type_candidates": _CANDIDATES} | _layout(path)
    relation = _sql(connection, path, layout)
    if len(relation.columns) == 1 and " " in relation.columns[0]:  # of one column with gaps in its name
        relation = _sql(connection, path, layout | {"delim": " "})
    return relation


def _sql(connection: DuckDBPyConnection, path: Path, layout: Mapping[str, Any]) -> DuckDBPyRelation:
    """Read text so laid out; DuckDB's method for it knows no encodings, its SQL does."""
    options = ", ".join(f"{name} = {_literal(value)}" for name, value in layout.items())
    return connection.sql(f"SELECT * FROM read_csv(?, {options})", params=[str(path)])  # noqa: S608 - quoted as below


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def _layout(path: Path) -> dict[str, Any]:
    """Tell what values do not: the encoding, which lines are comments, whether the header is one short."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            head = file.read(_HEAD)
    except (OSError, EOFError) as error:
        raise MonitorError(f"{path.name} cannot be read: {error}") from error
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "")
    if not encoding and b"\0" in head:
        raise MonitorError(f"{path.name} is no text: it holds zero bytes")
    if not encoding:
        encoding = "utf-8" if _is_utf8(path, head) else "latin-1"
    lines = head.decode(encoding, errors="replace").lstrip("\ufeff").splitlines()
    whole = lines[: -1 if len(head) == _HEAD else None][:_LINES]
    return {"encoding": encoding} | _header([line for line in whole if line.strip()])


def _is_utf8(path: Path, head: bytes) -> bool:
    """Whether a file is UTF-8, to its end: the first letter that is not may come late."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(head)
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            file.seek(len(head))
            while block := file.read(1 << 20):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _header(lines: Sequence[str]) -> dict[str, Any]:
    """What the first lines say of names: they follow comments, are a comment, or are of all columns but the first."""
    marked = next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))
    told: dict[str, Any] = {"comment": "#"} if marked else {}
    for separator in _SEPARATORS:
        cells = list(csv.reader(lines[marked:], delimiter=separator))
        widths = {len(one) for one in cells[1:]}
        if len(widths) != 1 or (width := widths.pop()) == 1:
            continue
        told["delim"] = separator
        first, rest = cells[0], cells[1:]
        if len(first) == width - 1 and _names(["", *first], rest):
            return told | {"header": False, "names": [_UNNAMED, *first], "skip": marked + 1}
        if len(first) == width and _names(first, rest):
            return told | {"header": True}
        named = next(csv.reader([lines[marked - 1].lstrip("# ")], delimiter=separator)) if marked else []
        if len(named) == width and _names(named, cells):
            return told | {"header": False, "names": [name.strip() for name in named]}
        return told | ({"header": False} if any(map(_measures, first)) else {})
    return told


def _names(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether a line names columns: above numbers, dates or times stands in some column what is none of these."""
    return any(
        name and not _measures(name) and sum(_measures(row[place]) for row in rest) > len(rest) / 2
        for place, name in enumerate(first)
    )


def _measures(cell: str) -> bool:
    """Whether a cell holds a number, a date or a time, and so is no name."""
    return _NUMBER.fullmatch(cell) is not None or _DATED.match(cell) is not None


def _moments(name: str, kind: str, line: Sequence[Any], notes: list[str]) -> tuple[str, Sequence[Any]]:
    """Read text that is dates or times of day in some other spelling; anything else stays what it is."""
    if kind != "VARCHAR" or not any(line):
        return kind.removeprefix("TEXT "), line
    known = [text for text in line if text]
    for form in _SPELLINGS:
        read = [_parsed(text, form) for text in known[:_LOOKED_AT]]
        if None in read:
            continue
        if form.startswith(("%d/%m", "%m/%d")):
            first = _first_day(known)
            if first is None and not _nearer(known, form):
                continue
            if first is None:
                notes.append(f"{name}: whether days or months come first is not told: taken for {_SAID[form[:5]]}")
            elif first != form.startswith("%d"):
                continue
        dated, of_day = "%d" in form, "%H" in form or "%I" in form
        kind = ("TIMESTAMP" if of_day else "DATE") if dated else "TIME"
        return kind, [_parsed(text, form) if text else None for text in line]
    return kind, line


def _first_day(known: Sequence[str]) -> bool | None:
    """Whether days stand before months: no second number is over 12, and dates in that order go less back and forth."""
    numbers = [[int(part) for part in re.findall(r"\d+", text)[:3]] for text in known]
    if any(one[1] > 12 for one in numbers if len(one) > 1):  # noqa: PLR2004 - months
        return False
    if any(one[0] > 12 for one in numbers if one):  # noqa: PLR2004
        return True
    orders = ([(one[2], one[1], one[0]) for one in numbers], [(one[2], one[0], one[1]) for one in numbers])
    day_first, month_first = (sum(a > b for a, b in pairwise(order)) for order in orders)
    return None if day_first == month_first else day_first < month_first


def _nearer(known: Sequence[str], form: str) -> bool:
    """Whether dates lie nearer to each other read so than the other way round, as readings do."""
    other = form.replace("%d", "%_").replace("%m", "%d").replace("%_", "%m")
    spans = []
    for one in (form, other):
        read = [moment for text in known if (moment := _parsed(text, one)) is not None]
        spans.append((-len(read), max(read) - min(read)))
    return spans[0] <= spans[1]


def _parsed(text: str, form: str) -> float | None:
    try:
        moment = datetime.strptime(_SPAN.sub("", text.strip()), form).replace(tzinfo=UTC)
    except ValueError:
        return None
    if "%d" not in form:
        return 3600.0 * moment.hour + 60.0 * moment.minute + moment.second
    return moment.timestamp()


def _dated(relation: DuckDBPyRelation, name: str) -> str:
    """Tell what text is: dates and moments as ISO 8601 writes them, nearly all of it, or text."""
    column = _quoted(name)
    counted = (
        f"count({column})",
        f"count(TRY_CAST({column} AS TIMESTAMP))",
        f"count(*) FILTER (regexp_matches({column}, '{_DAY}'))",
        f"count(*) FILTER (regexp_matches({column}, '{_ZONE}'))",
    )
    known, moments, days, zoned = relation.aggregate(", ".join(counted)).fetchall()[0]
    if not known or moments < _MOSTLY * known:
        return "VARCHAR"
    if days == known:
        return "TEXT DATE"
    return "TEXT TIMESTAMP WITH TIME ZONE" if zoned == moments else "TEXT TIMESTAMP"


def _asked(name: str, kind: str) -> str:
    column = _quoted(name)
    if kind.startswith("TEXT"):
        return f"epoch(TRY_CAST({column} AS TIMESTAMPTZ))"  # in UTC, unless it names another zone
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        return f"epoch({column}::TIMESTAMP)" if kind != "TIMESTAMP WITH TIME ZONE" else f"epoch({column})"
    if kind == "TIME":
        return f"epoch({column})"
    if kind.startswith("DECIMAL"):
        return f"{column}::DOUBLE"
    return f"{column}::VARCHAR" if kind == "BOOLEAN" else column


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _number(text: str) -> tuple[float, str] | None:
    """A number as people write it, and its unit: of comma and point the later is decimal, unless it comes twice."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return _plain(text)
    digits = found[1]
    decimal = "," if digits.rfind(",") > digits.rfind(".") else "."
    if digits.count(decimal) > 1:  # then both part thousands
        decimal = ""
    kept = "".join("." if one == decimal else one for one in digits if one not in ",." or one == decimal)
    return float(kept), found[2] or ""


def _plain(text: str) -> tuple[float, str] | None:
    try:
        return float(text), ""  # such as "inf"
    except ValueError:
        return None
