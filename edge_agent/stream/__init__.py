"""The pure middle: from readings to windows, scores and alarms. No module here uses sockets, files or clocks."""

__all__: list[str] = []
