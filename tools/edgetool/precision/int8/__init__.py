"""Graphs that compute in int8: matrix products and convolutions with constant weights."""

__all__: list[str] = []
