"""The data that packages exchange: readings, deliveries and their topics, scores, events."""

__all__: list[str] = []
