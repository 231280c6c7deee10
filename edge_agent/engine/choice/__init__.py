"""Finds, proves, times, chooses and remembers the provider that scores."""

__all__: list[str] = []
