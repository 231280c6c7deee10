"""`agent.toml`: its settings, and how the file is read and checked as a whole."""

__all__: list[str] = []
