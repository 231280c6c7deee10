"""A program or module of PyTorch becomes a model by PyTorch's own exporter, whose defaults are not what a device needs.

The batch is open, each output has a name that the module gives it, the weights are inside, and nothing of the machine
that it was trained on is left.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from edge_agent.errors import ConversionError
from edgetool.extras import require
from edgetool.frameworks.made import Made, batch_axes
from edgetool.frameworks.one_line import one_line
from edgetool.frameworks.pytorch.called import (
    ITEMS,
    Called,
    called_module,
    called_program,
    names_of,
    script_names,
    tensors_of,
)
from edgetool.frameworks.pytorch.exporters import by_exporter, by_script, flat, opened, traced
from edgetool.frameworks.pytorch.naming import leave_out_sums, name_ends
from edgetool.frameworks.shapes import Shape
from edgetool.graph.metadata import strip_metadata
from edgetool.graph.origin import Origin
from edgetool.graph.randomness import draws_numbers
from edgetool.verify.arrays import Sample

__all__ = ["convert"]


def convert(found: Any, what: str, shapes: Sequence[Shape], *, open_time: int | None = None) -> Made:
    """Make a model.

    Args:
        found: from `open_torch`.
        what: it is, for a person.
        shapes: of its inputs; a program knows its own.
        open_time: an axis of the first input whose size is left open, too.

    Raises:
        ConversionError: PyTorch cannot export it, or it draws random numbers.
        UsageError: shapes are missing, or are not those of the program.
    """
    torch = require("torch", extra="torch")
    with _quiet():
        if isinstance(found, torch.export.ExportedProgram):
            called = called_program(torch, found, what, shapes)
            open_time = called.inputs[0].open_axis if open_time is None else open_time
            if not all(item.is_open for item in called.inputs) or open_time != called.inputs[0].open_axis:
                if not called.is_flat:
                    raise ConversionError(
                        f"{what}: takes tensors by keyword, or in a dictionary or list, and not every size of a batch; "
                        "save it with dynamic_shapes of that form, with {0: torch.export.Dim('batch')} for each tensor"
                    )
                model = opened(torch, found, called, what, open_time)
            else:
                model = by_exporter(torch, found, what)
        elif isinstance(found, torch.jit.ScriptModule):
            called = called_module(torch, found, script_names(found), what, shapes)
            model = by_script(torch, found, called, what, open_time)
        else:
            called = called_module(torch, found, names_of(found, what), what, shapes)
            model = by_exporter(torch, traced(torch, found, called, what, open_time), what)
        names = _named(torch, called, what)
    if draws_numbers(model):
        raise ConversionError(
            f"{what}: draws random numbers when it answers, in evaluation mode, too: a VAE that samples, or a dropout "
            "that is always on. Let its forward sample in training only, and save it again: z = mean + spread * "
            "torch.randn_like(spread) if self.training else mean. The weights stay as they are"
        )
    given = {item.name: item.shape.axis for item in called.inputs}
    names = [f"{name}_out" if name in given else name for name in names]
    name_ends(model, what, given, names, open_time)
    left_out = leave_out_sums(model, what)
    strip_metadata(model)
    into = batch_axes(model.graph.output)

    def answer(sample: Sample) -> Sample:
        with _quiet():
            answers = [flat(torch, called.run(part))[1] for part in _parts(torch, sample, called)]
        count = sample[called.inputs[0].name].shape[called.inputs[0].shape.axis]
        whole = [
            (name, torch.cat(tensors, dim=into[name]))
            for name, tensors in zip(names, zip(*answers, strict=True), strict=True)
            if name in into
        ]
        return {name: tensor.narrow(into[name], 0, count).numpy() for name, tensor in whole}

    return Made(
        model,
        answer,
        Origin(framework=f"PyTorch {torch.__version__}", estimator=what, converter=f"PyTorch {torch.__version__}"),
        open_axis=open_time,
        spans={item.name: item.span for item in called.inputs if item.span is not None},
        advice=called.advice(what),
        notes=[f"output {name!r} is one for all items of a batch, and is left out" for name in left_out],
    )


def _named(torch: Any, called: Called, what: str) -> list[str]:
    """Names of what the module answers.

    Raises:
        ConversionError: it fails.
    """
    try:
        names, _ = flat(torch, called.run(tensors_of(torch, called.inputs, called.fixed or ITEMS)))
    # It is the user's code, and raises what it likes.
    except (Exception, SystemExit) as exc:
        raise ConversionError(
            f"{what}: fails for {called.fixed or ITEMS} items of float32 ({one_line(exc)}); is the shape right, and "
            "is the model in float32?"
        ) from exc
    return names


def _parts(torch: Any, sample: Sample, called: Called) -> Iterator[list[Any]]:
    """A sample as tensors, in batches of the size that is taken; the last one is filled up with its last item."""
    axes = [item.shape.axis for item in called.inputs]
    given = [torch.from_numpy(sample[item.name].copy()) for item in called.inputs]
    count = given[0].shape[axes[0]]
    size = called.fixed or count
    for start in range(0, count, size):
        places = torch.arange(start, start + size).clamp(max=count - 1)
        yield [tensor.index_select(axis, places) for tensor, axis in zip(given, axes, strict=True)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings and lines of the log, of which PyTorch has many, and with prints of the user's code kept off."""
    torch = require("torch", extra="torch")
    # Its loggers have levels of their own, which it sets again as it goes.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
