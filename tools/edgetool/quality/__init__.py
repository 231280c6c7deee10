"""How good scores are, and how sure a limit is: pure functions of arrays."""

__all__: list[str] = []
