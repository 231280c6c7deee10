"""Reports for a person to look at: HTML pages, charts and drawn graphs."""

__all__: list[str] = []
