"""Graphs that compute in float16: which nodes can, the conversion, and the search for what has to stay float32."""

__all__: list[str] = []
