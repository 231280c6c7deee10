"""What an operator asks a running agent for: small files in the state folder, which the agent takes away.

Files and not a topic, so that whoever may write to the broker can still not change a threshold.
"""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

import msgspec

from edge_agent.errors import ConfigError

__all__ = ["Recommission", "leave_request", "take_requests"]

log = logging.getLogger(__name__)

_PATTERN = "request-*.json"


class Recommission(msgspec.Struct, frozen=True, kw_only=True):
    """Set thresholds anew from the readings that come now."""

    stream: str
    asset: str | None = None
    """None for all assets."""


def leave_request(state_dir: Path, request: Recommission) -> None:
    """Ask the agent that uses this state folder.

    Raises:
        ConfigError: the folder is not there or cannot be written.
    """
    name = secrets.token_hex(8)
    try:
        beside = state_dir / f"request-{name}.tmp"
        beside.write_bytes(msgspec.json.encode(request))
        beside.rename(state_dir / f"request-{name}.json")
    except OSError as exc:
        raise ConfigError(f"[agent] state_dir = {str(state_dir)!r}: cannot be written ({exc.strerror})") from exc


def take_requests(state_dir: Path) -> list[Recommission]:
    """The requests that wait; they are gone from the folder afterwards."""
    requests: list[Recommission] = []
    for file in sorted(state_dir.glob(_PATTERN)):
        try:
            content = file.read_bytes()
            file.unlink()  # first: what cannot be taken away would be obeyed again and again
            requests.append(msgspec.json.decode(content, type=Recommission))
        except (OSError, ValueError) as exc:
            log.warning("request not readable file=%s error=%s", file, exc)
    return requests
