"""What is published beside alerts, in other people's forms: pure but for what listens."""

__all__: list[str] = []
