"""What `edgetool` does: one module for each command, of its name. `edgetool.NAME` is the function, never a module."""

__all__: list[str] = []
