"""What Sparkplug B calls its topics and commands, for those who read it and for those who write it."""

from __future__ import annotations

__all__ = ["NAMESPACE", "REBIRTH"]

NAMESPACE = "spBv1.0"
"""The first level of all topics."""
REBIRTH = "Node Control/Rebirth"
"""The metric of a node by which hosts ask for its births."""
