"""The sources of readings, and the decoding of payloads."""

__all__: list[str] = []
