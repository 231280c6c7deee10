"""What `edgetool dashboard` shows: a model of the fleet, its history on the disk, and the pages."""

__all__: list[str] = []
