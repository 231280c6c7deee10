"""Names within one graph of a model that is converted, and names of the graphs around it."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx

__all__ = ["Scope"]


@dataclass(slots=True)
class Scope:
    """Names within one graph, and those outside that it can see."""

    graph: onnx.GraphProto
    outer: Scope | None
    halves: dict[str, str] = field(default_factory=dict)
    """Float16 forms of tensors."""
    wides: dict[str, str] = field(default_factory=dict)
    """Float32 forms of tensors that have only a float16 one by nature."""
    lost: set[str] = field(default_factory=set)
    """Tensors that exist as float16 only."""
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    """Inputs of the graph and outputs of its nodes."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def home(self, name: str) -> Scope:
        """The scope in which a tensor is made; a cast belongs there, where all graphs inside can use it."""
        scope: Scope = self
        while name not in scope.made and scope.outer is not None:
            scope = scope.outer
        return scope

    def find(self, table: str, name: str) -> str | None:
        """The other form of a tensor, from here outwards; `table` is `halves` or `wides`."""
        scope: Scope | None = self
        while scope is not None:
            found: dict[str, str] = getattr(scope, table)
            if name in found:
                return found[name]
            scope = scope.outer
        return None

    def is_lost(self, name: str) -> bool:
        """True if a tensor, of this graph or of one around it, exists as float16 only."""
        return name in self.lost or (self.outer is not None and self.outer.is_lost(name))

    def owner(self, name: str) -> Scope | None:
        """The scope whose constant a name is."""
        if name in self.constants:
            return self
        return self.outer.owner(name) if self.outer is not None else None
