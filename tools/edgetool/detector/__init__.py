"""A model becomes a detector: one canonical form, a score that points the right way, and limits for it."""

__all__: list[str] = []
