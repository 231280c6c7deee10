"""What outlives the process: one SQLite file of events that wait for the broker, and of records of assets."""

__all__: list[str] = []
