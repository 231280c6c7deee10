"""Where readings come from, and how their payloads are read."""

__all__: list[str] = []
