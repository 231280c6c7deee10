"""Smaller number formats: one module for each way to store or compute, and `quantize`, which chooses and verifies."""

__all__: list[str] = []
