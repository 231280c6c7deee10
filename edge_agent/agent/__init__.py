"""The running service: the loop, the batch, and what one start takes over from the stop before."""

__all__: list[str] = []
