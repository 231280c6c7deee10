"""Shapes of what a model takes, as the user gives them where the saved model does not hold them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.errors import UsageError

__all__ = ["Shape", "parse_shapes"]

_FORM = re.compile(r"(?:(?P<name>[A-Za-z_]\w*):)?(?P<sizes>\d+(?:x\d+)*)(?:@(?P<axis>\d))?")


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one item of an input."""

    name: str
    """Of the input; empty: the first one."""
    sizes: tuple[int, ...]
    """Without the batch."""
    axis: int = 0
    """Where the batch goes among them."""

    def of(self, count: int) -> tuple[int, ...]:
        """The shape of so many items."""
        return (*self.sizes[: self.axis], count, *self.sizes[self.axis :])


def parse_shapes(texts: Sequence[str]) -> tuple[Shape, ...]:
    """`60x9`, `h:16` or `h:1x16@1`: sizes of one row or window, for one input each.

    Raises:
        UsageError: one is something else, or two are for the same input.
    """
    found: dict[str, Shape] = {}
    for text in texts:
        match = _FORM.fullmatch(text.strip())
        sizes = tuple(int(size) for size in match["sizes"].split("x")) if match else ()
        axis = int(match["axis"] or 0) if match else 0
        if match is None or 0 in sizes or axis > len(sizes):
            raise UsageError(
                f"--shape {text!r}: expected the sizes of one row or window, without the batch, such as 60x9, or 9x60 "
                "for channels first; of another input h:16, or h:1x16@1 where the batch is its axis 1"
            )
        name = match["name"] or ""
        if name in found:
            raise UsageError(f"--shape {text!r}: is the second one for {name or 'the first input'}")
        found[name] = Shape(name, sizes, axis)
    return tuple(found.values())
