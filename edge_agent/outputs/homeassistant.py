"""Home Assistant's device discovery: retained messages from which it makes a device for each asset. Pure.

Its schema is https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload. What a score or a limit is,
Home Assistant reads from the scores' topic with its next message. Whether there is a problem has to be there as soon as
it starts, and alerts are not retained, so that has a retained topic of its own, beside what announces it.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from edge_agent.messages.event import STREAM_ASSET
from edge_agent.messages.text import encode
from edge_agent.messages.topic_names import AgentTopics
from edge_agent.mqtt.message import Message

__all__ = ["Discovery"]

_MAKER = "edge-agent"
_READABLE_CHARACTERS = 48


class Discovery:
    """Makes the messages of one agent.

    Args:
        agent: its id.
        prefix: what Home Assistant listens to, one or more levels of a topic.
        version: of the agent.
        has_scores: scores are published, so that there may be sensors of them.
    """

    def __init__(self, agent: str, *, prefix: str, version: str, has_scores: bool) -> None:
        self._agent = agent
        self._prefix = prefix
        self._topics = AgentTopics(agent)
        self._has_scores = has_scores
        self._origin = {"name": _MAKER, "sw_version": version}
        self.agent_topic = self._topic(self._id(), "config")

    def topic(self, stream: str, asset: str) -> str:
        """Where an asset's device is announced; an empty message there removes it."""
        return self._topic(self._id(stream, asset), "config")

    def problem_topic(self, stream: str, asset: str) -> str:
        """Where it is told whether an asset has a problem."""
        return self._topic(self._id(stream, asset), "problem")

    def agent(self) -> Message:
        """Announces the agent itself, with its connectivity."""
        name = self._id()
        connectivity = {
            "platform": "binary_sensor",
            "unique_id": f"{name}_connectivity",
            "name": "Connectivity",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": self._topics.status,
            "value_template": "{{ value_json.state }}",
            "payload_on": "online",
            "payload_off": "offline",
        }
        device = {"identifiers": [name], "name": f"edge-agent {self._agent}", "manufacturer": _MAKER}
        device["sw_version"] = self._origin["sw_version"]
        return self._message(self.agent_topic, device, {"connectivity": connectivity})

    def asset(self, stream: str, asset: str, model: str) -> Message:
        """Announces an asset: whether it has a problem, and its score and limit where scores are published.

        Args:
            stream: its name.
            asset: its name; `STREAM_ASSET` for the stream as a whole, which has no score.
            model: name and version of the bundle.
        """
        name = self._id(stream, asset)
        problem = {
            "platform": "binary_sensor",
            "unique_id": f"{name}_problem",
            "name": "Problem",
            "device_class": "problem",
            "state_topic": self.problem_topic(stream, asset),
        }
        components = {"problem": problem}
        if self._has_scores and asset != STREAM_ASSET:
            for key, title, field in (("score", "Score", "highest"), ("limit", "Limit", "threshold")):
                components[key] = {
                    "platform": "sensor",
                    "unique_id": f"{name}_{key}",
                    "name": title,
                    "state_class": "measurement",
                    "state_topic": self._topics.scores(stream, asset),
                    # A limit that there is not yet is null, and `None` is Home Assistant's unknown.
                    "value_template": f"{{{{ value_json.{field} }}}}",
                }
        device = {
            "identifiers": [name],
            "name": f"{stream} {asset}",
            "manufacturer": _MAKER,
            "model": model,
            "via_device": self._id(),
        }
        # Where the agent is away, nobody knows.
        availability = [{"topic": self._topics.status, "value_template": "{{ value_json.state }}"}]
        return self._message(self.topic(stream, asset), device, components, availability=availability)

    def problem(self, stream: str, asset: str, *, is_problem: bool) -> Message:
        """Whether an asset has a problem now."""
        return Message(self.problem_topic(stream, asset), b"ON" if is_problem else b"OFF", retain=True)

    def _message(self, topic: str, device: dict[str, Any], components: dict[str, Any], **shared: Any) -> Message:
        payload = {"device": device, "origin": self._origin, **shared, "components": components}
        return Message(topic, encode(payload), retain=True)

    def _topic(self, name: str, what: str) -> str:
        return f"{self._prefix}/device/{name}/{what}"

    def _id(self, *parts: str) -> str:
        """An id of letters, digits, `_` and `-`, which Home Assistant asks for; readable, and by its hash unique."""
        parts = (self._agent, *parts)
        readable = re.sub(r"[^A-Za-z0-9-]+", "_", "_".join(parts))[:_READABLE_CHARACTERS]
        return f"{_MAKER}_{readable}_{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:12]}"
