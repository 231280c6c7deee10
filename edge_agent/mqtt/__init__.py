"""The broker: a connection, kept up, and what may be published on it."""

__all__: list[str] = []
