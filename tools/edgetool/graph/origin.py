"""What `edgetool export` writes into a model about where it comes from and what its answer means."""

from __future__ import annotations

from typing import Any

import msgspec
import onnx

from edge_agent.bundle import ExportedPart

__all__ = ["Origin", "origin_of", "write_origin"]

_KEY = "edgetool"
_MOST_BYTES = 1 << 16


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The source of a model, as far as its answer needs it."""

    framework: str
    """Such as `scikit-learn 1.9.1`."""
    estimator: str
    """Such as `Pipeline(StandardScaler, IsolationForest)`."""
    converter: str = "edgetool"
    """Whose converter it was."""
    rows: int = 0
    """Rows on which its answers were compared with the framework's, in each size of batch."""
    deviation: float = 0.0
    """Largest difference of them, in units of the spread of the framework's answers."""
    output: str = ""
    """The output that is the score, or that it is made of; empty if that is open."""
    head: str = ""
    """What it is, as `--head` takes it; empty if that is open."""
    higher_is: str = ""
    """What a high value means, as `--higher-is` takes it; empty if that is not known."""
    classes: tuple[str, ...] = ()
    """Labels of a classifier's classes, in the order of its columns; empty of any other."""
    features: tuple[str, ...] = ()
    """Names of the columns that it was trained on, in their order; empty if it does not know them."""

    def part(self) -> ExportedPart:
        """The manifest's entry."""
        return ExportedPart(
            framework=self.framework,
            estimator=self.estimator,
            converter=self.converter,
            rows=self.rows,
            deviation=self.deviation,
        )

    def describe(self) -> dict[str, Any]:
        """For a report."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def write_origin(model: onnx.ModelProto, origin: Origin) -> None:
    """Note the source in a model, which is changed in place."""
    entry = model.metadata_props.add()
    entry.key, entry.value = _KEY, msgspec.json.encode(origin).decode()


def origin_of(model: onnx.ModelProto) -> Origin | None:
    """The source of a model that `edgetool export` made; None of any other, and of what cannot be read."""
    for entry in model.metadata_props:
        if entry.key == _KEY and len(entry.value) <= _MOST_BYTES:
            try:
                return msgspec.json.decode(entry.value.encode(), type=Origin)
            except ValueError:
                return None
    return None
