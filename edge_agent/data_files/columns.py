"""Which column of a data file is the time, the asset, the label and a channel, and what is not to be guessed."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.bundle import CHANNEL_NAME, RESERVED_CHANNELS
from edge_agent.data_files.cells import TRUTH, is_number, is_time, short
from edge_agent.data_files.sensor_data import names_of
from edge_agent.errors import DataError

__all__ = [
    "LOOKED_AT",
    "Columns",
    "Look",
    "Plan",
    "check_header",
    "look_at",
    "make_plan",
    "may_be_a_role",
    "refuse_other_names",
]

LOOKED_AT = 100
"""Rows by which columns are known."""
_COLUMN_LIMIT = 100_000
"""Ten times the channels that a bundle may have."""
_TIME_WORDS = {"timestamp", "timestamps", "ts", "datetime", "date", "time", "epoch", "zeitstempel", "zeit"}
_ASSET_WORDS = {"asset", "device", "equipment", "machine", "maschine", "anlage"}
_LABEL_WORDS = {
    "anomaly",
    "anomalies",
    "anomalous",
    "fault",
    "faulty",
    "label",
    "labels",
    "outlier",
    "attack",
    "failure",
    "failures",
    "defect",
    "defective",
    "target",
}
_ROW_WORDS = {"row", "index", "record", "message", "sample", "reading"}
"""What an id that is each row's own is of."""
_LABELS = (-1.0, 0.0, 1.0)
_ID_WORDS = {"id", "name", "no", "nr", "number", "tag"}
_EARLIEST_EPOCH_S = 1e8
"""March 1973: a column that is called `timestamp` and holds more counts seconds, milliseconds or finer since 1970."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a data file are, as far as somebody has said it.

    The names of `time`, `asset` and `label` are None for the columns of these names, if there are such, and empty for
    none at all.
    """

    time: str | None = None
    asset: str | None = None
    label: str | None = None
    channels: tuple[str, ...] = ()
    """Columns to take, in this order; empty: all that are something else than the three."""
    channels_from: str = "--channels"
    """Where a person names the channels, for the texts of errors."""

    @property
    def roles(self) -> dict[str, str | None]:
        """The three names, by what they mean."""
        return {"time": self.time, "asset": self.asset, "label": self.label}


@dataclass(frozen=True, slots=True)
class Look:
    """What the first rows of a column hold."""

    text: str | None = None
    """The first cell, where none is a number; None else. Of a column with a type that is no number, the type."""
    line: int | None = None
    """The number of that cell's line; None where a file has no lines."""
    is_times: bool = False
    """True if all cells are times in ISO 8601."""
    first: float | None = None
    """The first number; None if a cell is text, or there is none."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read of a file: the place of each column in it."""

    time: str | None
    asset: str | None
    label: str | None
    channels: tuple[str, ...]
    places: Mapping[str, int] = field(compare=False)
    """Of each column of the file."""
    ignored: tuple[str, ...] = field(default=(), compare=False)
    """Columns of text that are left out."""

    @property
    def names(self) -> list[str]:
        """The columns to read, in the file's order."""
        wanted = {self.time, self.asset, self.label, *self.channels}
        return [name for name in self.places if name in wanted]


def may_be_a_role(name: str) -> bool:
    """True if a column's name alone makes its cells worth a look, whatever they hold."""
    words = _words(name)
    return bool({*_TIME_WORDS, *_ASSET_WORDS, *_LABEL_WORDS}.intersection(words)) or _is_id(words)


def refuse_other_names(path: Path, names: Sequence[str], columns: Columns) -> None:
    """Refuse arrays beside `readings` that are called as a time, an asset or labels may be, and would not be read.

    Raises:
        DataError: with what to write instead.
    """
    claimed = {*columns.roles, *columns.roles.values()}
    # As if each held what makes its name one to ask about: their values are not read for that.
    for role, finds in (("time", _means_time), ("asset", _means_asset), ("label", _means_label)):
        found = [
            name for name in names if name not in claimed and finds(name, Look(first=1e9 if role == "time" else 1.0))
        ]
        if found and role not in names and columns.roles[role] is None:
            raise _role_error(path, role, found[0], Look(), "array")


def check_header(path: Path, header: Sequence[str], columns: Columns, where: str = "line 1") -> None:
    """Refuse a header that cannot be meant.

    Args:
        path: of the file.
        header: the names of its columns.
        columns: what somebody has said of them.
        where: the names stand, for a person.

    Raises:
        DataError: with what to write instead.
    """
    if len(header) > _COLUMN_LIMIT:
        raise DataError(f"{path}: {where} names {len(header)} columns, at most {_COLUMN_LIMIT} are read")
    if len(set(header)) < len(header):
        (twice, _), *_ = Counter(header).most_common(1)
        raise DataError(f"{path}: {where} names a column twice: {short(twice)!r}")
    if not [name for name in header if name not in RESERVED_CHANNELS]:
        raise DataError(f"{path}: {where} names no channel; expected a header such as time,pressure,flow")
    if len(header) == 1 and (found := [sign for sign in ";\t|" if sign in header[0]]):
        also = " and decimals with '.', not ','" if found[0] == ";" else ""
        raise DataError(f"{path}: {where} is separated by {found[0]!r}, expected ','{also}")
    if "" in header:
        raise DataError(
            f"{path}: {where} has a column without a name; from pandas, write it with index=False or index_label='time'"
        )
    numbers = [name for name in header if is_number(name)]
    if numbers:
        raise DataError(f"{path}: {where} must be a header, found the number {short(numbers[0])}")
    odd = [name for name in header if not re.fullmatch(CHANNEL_NAME, name)]
    if odd:
        raise DataError(
            f"{path}: {where} has a column {short(odd[0])!r}; a name holds no quotes, backslashes or control "
            "characters, and is at most 128 characters long"
        )
    _check_near(path, header, columns, where)


def make_plan(path: Path, looks: Mapping[str, Look], columns: Columns) -> Plan:
    """Find out what each column is.

    Args:
        path: of the file.
        looks: what each of its columns holds, in the file's order.
        columns: what somebody has said of them.

    Raises:
        DataError: a column is not there, or may be meant as something else than it would be taken for.
    """
    names = tuple(looks)
    roles: dict[str, str | None] = {}
    for role, name in columns.roles.items():
        if name and name not in looks:
            raise DataError(f"{path}: has no column {name!r} for --{role}-column{_near(name, names)}")
        roles[role] = (name or None) if name is not None else (role if role in looks else None)
    named = [name for name in roles.values() if name is not None]
    free = [name for name in names if name not in named and name not in RESERVED_CHANNELS]
    for name in columns.channels:
        if name in named:
            role = next(role for role, other in roles.items() if other == name)
            raise DataError(f"{path}: column {name!r} is the {role}, so it can be no channel")
        if name not in free:
            raise DataError(f"{path}: has no column {name!r}; its channels are: {names_of(free)}{_near(name, free)}")
    spare = [name for name in free if name not in columns.channels]
    for role, finds in (("time", _means_time), ("asset", _means_asset), ("label", _means_label)):
        found = [name for name in spare if finds(name, looks[name])]
        if found and roles[role] is None and columns.roles[role] is None:
            raise _role_error(path, role, found[0], looks[found[0]])
    texts = [name for name in spare if looks[name].text is not None]
    if texts and not columns.channels:
        raise _text_error(path, texts[0], looks[texts[0]], [n for n in free if n not in texts])
    channels = columns.channels or tuple(free)
    if not channels:
        raise DataError(f"{path}: has no channel beside {', '.join(named)}")
    places = {name: place for place, name in enumerate(names)}
    return Plan(roles["time"], roles["asset"], roles["label"], channels, places, tuple(texts))


def look_at(cells: Sequence[str], lines: Sequence[int]) -> Look:
    """What the first cells of a column hold, each with the number of its line."""
    filled = [(cell, line) for cell, line in zip(cells, lines, strict=True) if cell.strip()]
    if not filled:
        return Look()
    (first, line), *_ = filled
    if any(is_number(cell) for cell, _ in filled):
        return Look(first=float(first) if is_number(first) else None)
    return Look(text=first, line=line, is_times=all(is_time(cell) for cell, _ in filled))


def _check_near(path: Path, header: Sequence[str], columns: Columns, where: str) -> None:
    """Refuse `Time`, unless somebody has said what it is."""
    claimed = {*RESERVED_CHANNELS, *columns.roles.values(), *columns.channels}
    for name in header:
        meant = name.lower()
        if meant in RESERVED_CHANNELS and name not in claimed and columns.roles.get(meant) is None:
            option = f", or give --{meant}-column {name}" if meant in columns.roles else ""
            raise DataError(f"{path}: {where} has a column {name!r}; write it {meant!r}{option}")


def _role_error(path: Path, role: str, name: str, look: Look, what: str = "column") -> DataError:
    """A column that says by its name what it is, and is not read as that."""
    if role == "label" and look.text is not None and look.text.strip().lower() not in TRUTH:
        return DataError(
            f"{path}: column {name!r} holds text that looks like the label of the rows. Write it as a column 'label' "
            "with 1 for an anomaly and 0 for a normal row, or give --label-column '' if it is something else"
        )
    return DataError(
        f"{path}: {what} {name!r} looks like the {role} of the rows; did you mean {role!r}? Give --{role}-column "
        f"{_quoted(name)}, or --{role}-column '' if it is something else"
    )


def _text_error(path: Path, name: str, look: Look, others: Sequence[str]) -> DataError:
    if look.line is None:
        what = f"{path}: column {name!r} holds {look.text}, which is no number"
    else:
        text = look.text or ""
        what = f"{path}: line {look.line}, column {name!r}: {short(text)!r} is not a number"
        if re.fullmatch(r"\s*[-+]?\d*,\d+\s*", text):
            return DataError(f"{what}; write decimals with '.'")
    if others:
        what += f"; if it is no channel, name those that are: --channels {_quoted(','.join(others))}"
    return DataError(what)


def _words(name: str) -> list[str]:
    """The words of a name: `machineId`, `machine_id` and `Machine ID` are two."""
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _means_time(name: str, look: Look) -> bool:
    named = bool(_TIME_WORDS.intersection(_words(name)[:1] + _words(name)[-1:]))
    if look.text is not None:
        return named or look.is_times
    is_unmistakable = {"timestamp", "timestamps", "ts", "datetime", "epoch", "zeitstempel"}.intersection(_words(name))
    return bool(is_unmistakable) and look.first is not None and look.first >= _EARLIEST_EPOCH_S


def _means_asset(name: str, look: Look) -> bool:
    """`machine`, `device_id` or `unit_id`, of texts or of numbers: a window must not join two of them."""
    words = _words(name)
    is_named = bool(words) and words[0] in _ASSET_WORDS and set(words[1:]) <= _ID_WORDS
    is_number = look.first is not None and look.first.is_integer()
    return (is_named or _is_id(words)) and (look.text is not None or is_number)


def _is_id(words: Sequence[str]) -> bool:
    return len(words) > 1 and words[-1] == "id" and not _ROW_WORDS.intersection(words)


def _means_label(name: str, look: Look) -> bool:
    """`is_anomaly` of 0 and 1, or `fault` of names: read as a channel, or left out, it would make faults normal."""
    # Where the first rows have no label, the name is all there is.
    is_label = look.text is not None or look.first is None or look.first in _LABELS
    return bool(_LABEL_WORDS.intersection(_words(name))) and is_label


def _near(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1) or [n for n in names if n.lower() == name.lower()]
    return f"; did you mean {close[0]!r}?" if close else ""


def _quoted(name: str) -> str:
    """A name as a shell takes it."""
    return name if re.fullmatch(r"[\w.,:/@%+-]+", name) else "'" + name.replace("'", "'\\''") + "'"
