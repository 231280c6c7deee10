"""What stands between the agent and its service manager: what it is told, and what it asks for by signals."""

__all__: list[str] = []
