"""The broker: connection, topics, payloads."""

__all__: list[str] = []
