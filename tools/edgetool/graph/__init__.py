"""Model files and what can be done to a graph without running it: walks, repairs, what is taken out of it."""

__all__: list[str] = []
