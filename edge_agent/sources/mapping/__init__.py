"""What a stream's `[stream.payload]` table makes of the messages of other senders (docs/payloads.md)."""

__all__: list[str] = []
