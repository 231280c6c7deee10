"""Keeps state beyond the process: one SQLite file with the events that wait for the broker, and the assets' records."""

__all__: list[str] = []
