"""Finds out how senders write their readings, from messages that were heard, for `edgetool sniff`."""

__all__: list[str] = []
