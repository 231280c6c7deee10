"""Models are run in child processes, on the user's samples or made-up ones, and answers are held against each other."""

__all__: list[str] = []
