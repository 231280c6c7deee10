"""Which provider scores: found, proven, timed, chosen and remembered."""

__all__: list[str] = []
