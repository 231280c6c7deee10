"""Smaller number formats: a package for each way to compute, a module for storing, and the ladder, which chooses."""

__all__: list[str] = []
