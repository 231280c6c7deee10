"""What the dashboard waits for, and what it has taken when it ends."""

from __future__ import annotations

import errno
import socket
import ssl

import msgspec
import pytest
from fakes import make_alert

from edge_agent.errors import BrokerError
from edgetool.broker import BrokerAddress, BrokerAwayError, open_client
from edgetool.monitoring.fleet import Fleet
from edgetool.monitoring.intake import TOPICS, Intake, NoKeeper
from edgetool.monitoring.taking import Taking
from edgetool.subscription import Message, Subscription


def test_what_has_come_is_taken_before_the_end() -> None:
    """The broker has our receipt for it, and would not send it again."""
    arrived = Subscription(TOPICS)
    for number in range(90):
        event = make_alert(agent="g1", id=f"x{number}")
        arrived.put(Message("edge/g1/alerts/pump/a1", msgspec.json.encode(event), is_retained=False))
    intake = Intake(Fleet(), NoKeeper())
    taking = Taking(arrived, intake, [lambda: taking._is_over.wait(10)], lambda: None)
    with taking:
        pass
    assert intake.messages["alerts"] == 90


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (OSError(errno.ENETUNREACH, "no route"), True),
        (socket.gaierror(socket.EAI_AGAIN, "nobody can be asked"), True),
        (ssl.SSLEOFError(), True),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), False),
        (ssl.SSLCertVerificationError(), False),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), False),
        (ValueError("host"), False),
    ],
)
def test_what_is_waited_for_is_what_can_pass(monkeypatch: pytest.MonkeyPatch, error: Exception, may_pass: bool) -> None:
    """A machine that starts has no network yet; an unknown name and a bad certificate are for a person to mend."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", fail)
    with pytest.raises(BrokerError) as caught:
        open_client(BrokerAddress(), lambda _: None)
    assert isinstance(caught.value, BrokerAwayError) is may_pass
