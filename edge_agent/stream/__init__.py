"""The pure middle: readings to windows to scores to alarms. No sockets, files or clocks here."""

__all__: list[str] = []
