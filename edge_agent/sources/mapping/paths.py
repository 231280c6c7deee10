"""Paths into a document: `metrics[]`, `Content[].Data[].Values[]`, `values.*`, `../HwId`, `/PublisherId`, `$1`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from edge_agent.messages.reading import RejectReason
from edge_agent.sources.formats import FormatError

__all__ = ["ITEMS", "Path", "Place", "Step", "parse_path", "places"]


class Each:
    """A step to each item of an array, or to each key of an object."""

    def __init__(self, written: str) -> None:
        self.written = written

    def __repr__(self) -> str:
        return self.written


ITEMS: Final = Each("[]")
_KEYS: Final = Each("*")
Step = str | int | Each
_PART = re.compile(r"(?P<key>[^\[\]]*)(?P<behind>(?:\[\d*\])*)")


class Path(msgspec.Struct, frozen=True):
    """One path, taken apart.

    Attributes:
        written: as it stands in the configuration, for messages.
        up: how many objects above the row it begins; None for the document.
        steps: keys, places in arrays, and `Each`.
        star: the number of the `*` whose key is meant, from 1; 0 for none.
    """

    written: str
    up: int | None = 0
    steps: tuple[Step, ...] = ()
    star: int = 0

    @property
    def goes_down(self) -> bool:
        """True if it begins at the row and names keys only."""
        return self.up == 0 and not self.star and all(isinstance(step, str) for step in self.steps)

    def find(self, place: Place) -> Any:
        """What stands there, seen from a row; None if nothing does."""
        if self.star:
            return place.stars[self.star - 1] if self.star <= len(place.stars) else None
        if self.up is None:
            at: Any = place.above[0] if place.above else place.row
        elif self.up:
            if self.up > len(place.above):
                return None
            at = place.above[-self.up]
        else:
            at = place.row
        return self.follow(at)

    def follow(self, at: Any) -> Any:
        """What stands there, seen from an object; None if nothing does."""
        for step in self.steps:
            if isinstance(at, str):
                at = _within(at)
            if isinstance(step, int):
                at = at[step] if isinstance(at, list) and step < len(at) else None
            else:
                at = at.get(step) if isinstance(at, dict) else None
            if at is None:
                return None
        return at


class Place(msgspec.Struct):
    """A row, and where in the document it stands.

    Attributes:
        row: the row.
        above: the objects that it stands in, the document first.
        stars: the keys that the path's `*` stood for.
    """

    row: Any
    above: tuple[Any, ...] = ()
    stars: tuple[str, ...] = ()


def parse_path(written: str | Sequence[str], *, may_spread: bool = False) -> Path:
    """Take a path apart.

    Args:
        written: keys with dots between them; `[]` for each item of an array, `[0]` for one, `*` for each key. `/`
            before it begins at the document, each `../` one object higher, `.` is the row itself, `$1` the key that the
            first `*` of `rows` stood for. Keys with dots or brackets in them stand in a list.
        may_spread: `[]` and `*` are allowed.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(written, str):
        path = _of_list(list(written))
    elif re.fullmatch(r"\$[1-9]", written):
        path = Path(written, star=int(written[1]))
    else:
        path = _of_text(written)
    spread = [step for step in path.steps if isinstance(step, Each)]
    if spread and not may_spread:
        raise ValueError(f"{spread[0]} stands in `rows` only")
    return path


def _of_text(written: str) -> Path:
    text, up = written, 0
    if not text:
        raise ValueError("is empty; the row itself is '.'")
    if text.startswith("/"):
        return Path(written, None, _steps(text[1:]))
    while text == ".." or text.startswith("../"):
        text, up = text[3:], up + 1
    return Path(written, up, () if text == "." else _steps(text))


def _of_list(keys: list[str]) -> Path:
    """Each element is one key, whatever signs it has, but `[]`, `[0]` and `*`; `/` or `..` in front as in a text."""
    if not keys or not all(isinstance(key, str) and key for key in keys):
        raise ValueError("expected a list of keys")
    written, up = " > ".join(keys), 0
    if keys[0] == "/":
        return Path(written, None, tuple(map(_key_or_each, keys[1:])))
    while keys and keys[0] == "..":
        keys, up = keys[1:], up + 1
    return Path(written, up, tuple(map(_key_or_each, keys)))


def _key_or_each(key: str) -> Step:
    if match := re.fullmatch(r"\[(\d+)\]", key):
        return int(match[1])
    return ITEMS if key == "[]" else _KEYS if key == "*" else key


def _steps(text: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    for part in text.split(".") if text else ():
        match = _PART.fullmatch(part)
        if match is None or not part:
            raise ValueError("expected keys with dots between them, and [] or [0] behind one; others stand in a list")
        if match["key"]:
            steps.append(_KEYS if match["key"] == "*" else match["key"])
        steps += [int(inner) if inner else ITEMS for inner in re.findall(r"\[(\d*)\]", match["behind"])]
    return tuple(steps)


def places(document: Any, rows: Path | None) -> Iterator[Place]:
    """The rows of a document, in order; none where it lacks the keys of the path.

    Args:
        document: as its format gives it: objects, arrays, texts, numbers.
        rows: the path to them; None for the document, or each item of its array.

    Raises:
        FormatError: it has something else where the path names an array or an object.
    """
    spreads_at_once = rows is not None and rows.steps[:1] == (ITEMS,)
    for whole in document if isinstance(document, list) and not spreads_at_once else [document]:
        if rows is None:
            yield Place(whole)
        else:
            yield from _walk(whole, rows, rows.steps, (), ())


def _walk(
    at: Any, path: Path, steps: tuple[Step, ...], above: tuple[Any, ...], stars: tuple[str, ...]
) -> Iterator[Place]:
    for number, step in enumerate(steps):
        if isinstance(at, str):
            at = _within(at)
        if at is None:
            return
        rest = steps[number + 1 :]
        if stars and not isinstance(at, list if step is ITEMS else dict):
            return  # beside the keys that are rows, an object may have others
        if step is ITEMS:
            _expect(at, list, "array", path)
            for item in at:
                yield from _walk(item, path, rest, above, stars)
            return
        _expect(at, dict, "object", path)
        above = (*above, at)
        if step is _KEYS:
            for key, value in at.items():
                yield from _walk(value, path, rest, above, (*stars, key))
            return
        at = at.get(step)
    if at is not None:
        yield Place(at, above, stars)


def _within(text: str) -> Any:
    """What a text holds that is JSON itself, as a path goes on behind it; None if it is none."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None


def _expect(found: Any, kind: type, name: str, path: Path) -> None:
    if not isinstance(found, kind):
        is_array, is_object = isinstance(found, list), isinstance(found, dict)
        what = "an array" if is_array else "an object" if is_object else "neither"
        raise FormatError(RejectReason.WRONG_TYPE, f"rows = {path.written!r}: expected an {name} there, found {what}")
