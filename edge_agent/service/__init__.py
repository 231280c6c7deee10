"""The agent and its service manager: what it is told and asks for, what is installed where, and which version runs."""

__all__: list[str] = []
