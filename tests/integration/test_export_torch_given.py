"""What a model of PyTorch is given: integers and booleans, tensors by keyword or in a dictionary, and odd examples."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import run_tool
from torch import nn

from edge_agent.errors import ConversionError, DataError
from edgetool.commands.export import export
from edgetool.frameworks.items import made_up
from edgetool.frameworks.pytorch import made_of
from edgetool.frameworks.sources import Saved, Trust

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

BATCH = torch.export.Dim("batch")
X = torch.linspace(-1, 1, 8).reshape(2, 4)


class Modes(nn.Module):  # type: ignore[misc]
    """A table of five modes of a machine, looked up by number, and a switch."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)

    def forward(self, x: torch.Tensor, mode: torch.Tensor, on: torch.Tensor) -> torch.Tensor:
        return torch.where(on[:, None], x + self.table(mode), x)


class Gain(nn.Module):  # type: ignore[misc]
    """One tensor by keyword alone."""

    def forward(self, x: torch.Tensor, *, gain: torch.Tensor) -> torch.Tensor:
        return x * gain


class Nested(nn.Module):  # type: ignore[misc]
    """Tensors in a dictionary."""

    def forward(self, given: dict[str, torch.Tensor]) -> torch.Tensor:
        return given["x"] + 2 * given["y"]


def saved(path: Path, module: nn.Module, args: tuple[Any, ...], shapes: Any, **kwargs: torch.Tensor) -> Path:
    torch.export.save(torch.export.export(module.eval(), args, kwargs, dynamic_shapes=shapes), path)
    return path


def modes(folder: Path, numbers: tuple[int, int] = (0, 4)) -> Path:
    args = (X, torch.tensor(numbers), torch.tensor([True, False]))
    return saved(folder / "m.pt2", Modes(), args, tuple({0: BATCH} for _ in args))


def test_integers_are_compared_on_those_of_the_program(tmp_path: Path) -> None:
    """All of 0 to 4, where zeros would show one line of the table; booleans are both."""
    made = made_of(modes(tmp_path), Saved(trust=Trust(code=True)))
    given = made_up(made)
    assert {int(number) for number in given["mode"]} == {0, 1, 2, 3, 4}
    assert {bool(value) for value in given["on"]} == {False, True}
    assert made.notes == [
        "input 'mode' takes integers, and is compared on 0 to 4, as it was saved with; --example FILE.npz has others"
    ]
    assert export(tmp_path / "m.pt2", trust_code=True).agreed.deviation <= 1e-4


def test_integers_that_only_zeros_are_known_of_are_told(tmp_path: Path) -> None:
    """With how to give others."""
    report = export(modes(tmp_path, (0, 0)), trust_code=True)
    assert any("compared on 0 alone; --example FILE.npz has others" in note for note in report.notes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mode": np.array([0.5, 1, 2])}, r"mode is of float64, with values that int64 does not hold"),
        ({"on": np.array([0, 1, 2])}, r"on is of int64, with values that bool does not hold"),
        ({"x": np.full((3, 4), "1")}, r"x is of <U1, expected float32"),
        ({"x": np.full((3, 4), 1j)}, r"x is of complex128, expected float32"),
        ({"x": np.full((3, 4), 1e300)}, r"x has values beyond what float32 holds"),
        ({"mode": np.array([0, 1, 2.0]), "on": np.array([0, 1, 1]), "x": np.ones((3, 4), np.int64)}, ""),
    ],
)
def test_an_example_is_of_the_types_of_the_inputs(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    """Or holds the same values in another type."""
    given = {"x": np.ones((3, 4)), "mode": np.array([0, 3, 4]), "on": np.array([True, False, True])}
    np.savez(tmp_path / "e.npz", **{**given, **change})
    source = modes(tmp_path)
    if told:
        with pytest.raises(DataError, match=told):
            export(source, example=tmp_path / "e.npz", trust_code=True)
    else:
        assert export(source, example=tmp_path / "e.npz", trust_code=True).agreed.rows >= 3


def test_a_program_takes_tensors_by_keyword_and_in_a_dictionary(tmp_path: Path) -> None:
    """Where its batch is open; where it is not, the refusal says how it is opened in that form."""
    gain = torch.ones(2, 1)
    keyword = saved(tmp_path / "k.pt2", Gain(), (X,), {"x": {0: BATCH}, "gain": {0: BATCH}}, gain=gain)
    nested = saved(tmp_path / "n.pt2", Nested(), ({"x": X, "y": X},), ({"x": {0: BATCH}, "y": {0: BATCH}},))
    for path in (keyword, nested):
        assert export(path, trust_code=True).agreed.deviation <= 1e-4
    fixed = [saved(tmp_path / "fk.pt2", Gain(), (X,), None, gain=gain)]
    fixed.append(saved(tmp_path / "fn.pt2", Nested(), ({"x": X, "y": X},), None))
    for path in fixed:
        with pytest.raises(
            ConversionError, match="by keyword, or in a dictionary or list, and not every size of a batc"
        ):
            export(path, trust_code=True)


SOURCE = """
    import logging, sys, torch
    print("a line of the author's")
    class Branch(torch.nn.Module):
        def forward(self, x):
            print("another one")
            logging.getLogger("torch.fx").warning("a line of PyTorch's log")
            return x + 1 if x.sum() > 0 else x
    class Plain(torch.nn.Module):
        def forward(self, x):
            print("another one")
            return 2 * x
    class Keyword(torch.nn.Module):
        def forward(self, x, *, gain):
            return x * gain
    class Nested(torch.nn.Module):
        def forward(self, given):
            return given["x"]
"""


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Branch", "no branch may depend on values"),
        ("Keyword", "forward takes 'gain' by keyword alone"),
        ("Nested", "forward has to take tensors, one for each --shape"),
    ],
)
def test_a_refusal_is_one_line(name: str, told: str, tmp_path: Path) -> None:
    """PyTorch's log and its graphs stay out of it."""
    (tmp_path / "model.py").write_text(textwrap.dedent(SOURCE).replace('print("a line of the author\'s")', ""))
    more = ("--shape", "gain:1") if name == "Keyword" else ()
    done = run_tool("edgetool", "export", f"{tmp_path / 'model.py'}:{name}", "--shape", "4", *more)
    assert done.returncode == 65
    assert done.stdout == ""
    assert done.stderr.startswith(f"edgetool: model.py:{name}: ")
    assert done.stderr.count("\n") == 1
    assert told in done.stderr


def test_what_the_author_prints_is_no_part_of_the_document(tmp_path: Path) -> None:
    """With --json, stdout is one document."""
    (tmp_path / "model.py").write_text(textwrap.dedent(SOURCE))
    done = run_tool("edgetool", "export", f"{tmp_path / 'model.py'}:Plain", "--shape", "4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["opset"] == 18
    assert "a line of the author's" in done.stderr
