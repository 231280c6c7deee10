"""New bundles and settings that come over the broker: what may come, what the disk has, and how it proves itself."""

__all__: list[str] = []
