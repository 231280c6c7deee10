"""The demo tells what was lost, and where: its own checks decide its exit code."""

from __future__ import annotations

from typing import Any

import pytest
from broker import RunningBroker
from demo import Sent, find_loss

BROKER = RunningBroker("mosquitto version 2.0.11", 1883)


def lane(received: int, readings: int, scored: int, **more: Any) -> dict[str, Any]:
    return {"received": received, "readings": readings, "scored": scored, "rejected": {}, "repeated": 0, **more}


@pytest.mark.parametrize(
    ("sent", "found", "lost"),
    [
        (Sent(100, 100), lane(100, 100, 96), []),
        (
            Sent(100, 99),
            lane(99, 99, 95),
            ["pump: 100 readings sent, 99 acknowledged by mosquitto version 2.0.11"],
        ),
        (
            Sent(100, 100),
            lane(60, 60, 56),
            [
                (
                    "pump: 60 of the 100 readings that mosquitto version 2.0.11 has acknowledged came to the agent; "
                    "it has lost the others, or not passed them on in 45 s"
                )
            ],
        ),
        (
            Sent(100, 100),
            lane(100, 97, 93, rejected={"not_json": 2}, repeated=1),
            ["pump: 100 readings came, 97 were taken; rejected: {'not_json': 2}; repeated: 1"],
        ),
        (Sent(100, 100), lane(100, 100, 90), ["pump: 90 of 96 windows scored; see build/demo/agent.log"]),
    ],
)
def test_what_was_lost_is_told_with_its_place(sent: Sent, found: dict[str, Any], lost: list[str]) -> None:
    """Between sender and broker, broker and agent, a message and a reading, a reading and its score."""
    assert find_loss("pump", sent, found, 5, BROKER) == lost
