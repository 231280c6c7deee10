"""Computes scores: the providers of this device, the choice among them, and a session that scores batches."""

__all__: list[str] = []
