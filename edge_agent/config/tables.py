"""Reads a table of TOML into the fields of a struct, and says what is wrong with its keys."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any, get_args, get_origin

import msgspec

from edge_agent.setting_types import expected, meant_by, read_value

__all__ = ["read_table", "suggest"]


def read_table(
    table: object, where: str, kind: type[msgspec.Struct], problems: list[str], outer: Collection[str] = ()
) -> dict[str, Any]:
    """Read the correct keys of one table; the problems of the others are added to `problems`.

    Args:
        table: the table, as TOML gives it.
        where: the table's name, for messages.
        kind: the struct whose fields are the table's keys.
        problems: a list to add to.
        outer: keys of the enclosing table.
    """
    if not isinstance(table, dict):
        problems.append(f"{where}: expected a table of keys, found {type(table).__name__}")
        return {}
    # A key may be a word of Python, as `from`.
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    good: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            hint = _belongs(key, where, fields, outer) or suggest(key, list(fields))
            problems.append(f"{where} {key}: unknown key{hint}")
            continue
        name = fields[key].name
        if get_origin(fields[key].type) is dict and (row_kind := table_of(fields[key].type)) is not None:
            good[name] = _read_named(value, f"{where} [{key}]", row_kind, problems)
            continue
        if get_origin(fields[key].type) is tuple and (row_kind := table_of(fields[key].type)) is not None:
            good[name] = _read_rows(value, f"{where} [[{key}]]", row_kind, problems)
            continue
        table_kind = table_of(fields[key].type)
        if table_kind is not None:
            inner = f"{where} [{key}]"
            before = len(problems)
            found = read_table(value, inner, table_kind, problems, fields)
            if len(problems) == before:
                good[name] = table_kind(**found)
            continue
        try:
            good[name] = read_value(value, fields[key].type)
        except ValueError:
            meant = meant_by(value, fields[key].type)
            advice = f"; write {key} = {meant}" if meant else ""
            problems.append(f"{where} {key} = {value!r}: expected {expected(fields[key].type)}{advice}")
    problems.extend(
        f"{where} {name}: is missing" for name, field in fields.items() if field.required and name not in table
    )
    return good


def _read_rows(
    tables: object, where: str, kind: type[msgspec.Struct], problems: list[str]
) -> tuple[msgspec.Struct, ...]:
    """Read a table of which there may be several; gives those that are correct."""
    if not isinstance(tables, list):
        problems.append(f"{where}: is written in double brackets, because there may be several")
        return ()
    good: list[msgspec.Struct] = []
    for number, table in enumerate(tables, start=1):
        before = len(problems)
        found = read_table(table, f"{where} {number}", kind, problems)
        if len(problems) == before:
            good.append(kind(**found))
    return tuple(good)


def _read_named(
    tables: object, where: str, kind: type[msgspec.Struct], problems: list[str]
) -> dict[str, msgspec.Struct]:
    """Read tables by name; a text or a list in the place of one is its first key. Gives those that are correct."""
    if not isinstance(tables, dict):
        problems.append(f"{where}: expected a table of names, found {type(tables).__name__}")
        return {}
    first = msgspec.structs.fields(kind)[0].encode_name
    good: dict[str, msgspec.Struct] = {}
    for name, table in tables.items():
        before = len(problems)
        found = read_table(
            {first: table} if isinstance(table, str | list) else table, f"{where} {name}", kind, problems
        )
        if len(problems) == before:
            good[name] = kind(**found)
    return good


def table_of(annotation: Any) -> type[msgspec.Struct] | None:
    """The struct of a field that is a table, also of one that may be None; None if the field is no table."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return kind
    return None


def _belongs(key: str, where: str, fields: dict[str, Any], outer: Collection[str]) -> str:
    """Advice for a key in the wrong table, as in TOML all keys below a table's heading belong to that table."""
    if key in outer:
        return f"; it belongs above this table, right below {where.rpartition(' [')[0]}"
    for name, field in fields.items():
        kind = table_of(field.type)
        if kind is not None and key in kind.__struct_fields__:
            table = f"[{where.strip('[] 0123456789')}.{name}]"
            return f"; it belongs into a table {f'[{table}]' if get_origin(field.type) is tuple else table} below"
    return ""


def suggest(name: str, known: list[str]) -> str:
    """Advice for a name that is not known: the one that it resembles, or all that are."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
