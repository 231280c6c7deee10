"""What tests of the connection to a broker share."""

from __future__ import annotations

import subprocess
from pathlib import Path

from certificates import Authority
from processes import Agent, Sender, Subscriber, wait_until

__all__ = ["AGENT_RULES", "log_of", "password_file", "raises_an_alert", "tls"]

AGENT_RULES = """\
topic readwrite #
user agent
topic read sensors/#
topic write edge/g1/status
topic write edge/g1/health
{more}
"""
"""Mosquitto's access rules: who has no name may all, and the agent what stands here and in `more`."""


def tls(authority: Authority, certificate: tuple[Path, Path], *more: str) -> str:
    """Settings of a listener that speaks TLS."""
    file, key = certificate
    return "\n".join([f"cafile {authority.file}", f"certfile {file}", f"keyfile {key}", *more])


def log_of(agent: Agent) -> str:
    return agent.log.read_text(encoding="utf-8")


def raises_an_alert(sender: Sender, subscriber: Subscriber) -> None:
    """A reading goes in, and its alert comes out; an earlier one may come again, if its acknowledgement was lost."""
    before = len(subscriber.different)
    sender.send("sensors/a1/pump", {"c1": 0 if before % 2 else 9, "c2": 0})
    wait_until(lambda: len(subscriber.different) == before + 1, what="the alert")


def password_file(folder: Path, password: str, user: str = "agent") -> Path:
    """Mosquitto's list of one user."""
    file = folder / "users"
    file.write_text(f"{user}:{password}\n")
    subprocess.run(["mosquitto_passwd", "-U", str(file)], check=True, capture_output=True, timeout=30)
    return file
