"""What the packages hand to each other: readings, deliveries and their topics, scores, events."""

__all__: list[str] = []
