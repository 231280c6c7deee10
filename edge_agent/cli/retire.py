"""`edge-agent retire`: take back what this agent has at its brokers, because it does not come back."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from edge_agent.cli.options import add_config, add_json, load
from edge_agent.errors import BrokerError, JournalError, UsageError
from edge_agent.messages.topic_names import AgentTopics
from edge_agent.terminal import json_text, say

if TYPE_CHECKING:
    from edge_agent.config.settings import Config
    from edge_agent.mqtt.retire import Retired

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config(command)
    command.add_argument(
        "--discard-waiting", action="store_true", help="although events wait in the journal that nobody will publish"
    )
    add_json(command)


def run(options: argparse.Namespace) -> None:
    """End the agent's sessions at every address of its brokers, and clear its retained status and health."""
    from edge_agent.cli.as_service import credentials_of_service

    with credentials_of_service(options.config):
        _retire_agent(options, load(options))


def _retire_agent(options: argparse.Namespace, config: Config) -> None:
    from edge_agent.agent.state_dir import locked_state_dir

    state_dir = Path(config.agent.state_dir)
    # A running agent would be thrown out, and would come back.
    with locked_state_dir(state_dir, warns=False):
        waiting = _count(state_dir / "journal.db", discard=options.discard_waiting)
        if waiting and not options.discard_waiting:
            raise UsageError(
                f"{state_dir}: events in the journal that nobody would publish any more: {waiting}; let the agent run "
                "until its queue_depth is 0, or give --discard-waiting"
            )
        visits = _retire(config, _announced(state_dir / "journal.db", config))
    if not options.json:
        for visit in visits:
            _tell(visit)
    if problems := [f"{visit.address}: {_what_failed(visit)}" for visit in visits if visit.problem is not None]:
        raise BrokerError(*(f"{problem}; run this again when it is mended" for problem in problems))
    if options.json:
        brokers = [
            {"address": visit.address, "client_id": visit.client_id, "session": "ended", "cleared": [*visit.cleared]}
            for visit in visits
        ]
        left = {"state_dir": str(state_dir), "waiting_events": waiting}
        say(json_text({"agent": config.agent.id, "brokers": brokers, **left}))
        return
    if waiting != 0:
        say(
            f"events that were not published, and are still in the journal: {'unknown' if waiting is None else waiting}"
        )
    real = state_dir.resolve()  # of the service it is a link, which alone would be removed
    say(f"the state folder stays; when nobody needs it any more: rm -r {quote(str(real))}")


def _count(journal: Path, *, discard: bool) -> int | None:
    """How many events wait; None where that cannot be read and does not matter."""
    from edge_agent.journal.database import count_waiting

    try:
        return count_waiting(journal)
    except JournalError:
        if discard:
            return None
        raise


def _announced(journal: Path, config: Config) -> list[str]:
    """Topics on which the agent has announced assets."""
    from edge_agent.agent.handover import former_announced
    from edge_agent.journal.journal import Journal

    if not journal.exists():
        return []
    with closing(Journal(journal, config.journal)) as opened:
        return former_announced(opened).topics


def _retire(config: Config, announced: list[str]) -> list[Retired]:
    from edge_agent.mqtt.brokers import connections
    from edge_agent.mqtt.retire import retire

    topics = AgentTopics(config.agent.id)
    updates = [topics.update(stream.name) for stream in config.streams] if config.trust.keys else []
    retained = [topics.status, topics.health, *updates, *announced]
    found = connections(config.mqtt, config.agent.id)
    return [
        # What the agent publishes goes by the last of its connections.
        retire(connection, address, retained if connection is found[-1] else [])
        for connection in found
        for address in connection.settings.addresses
    ]


def _tell(visit: Retired) -> None:
    if visit.is_ended:
        cleared = f"; cleared: {', '.join(visit.cleared)}" if visit.cleared else ""
        say(f"{visit.address}: session {visit.client_id} ended{cleared}")


def _what_failed(visit: Retired) -> str:
    return str(visit.problem) if visit.is_ended else f"session {visit.client_id} not ended: {visit.problem}"
