"""The channels that a user names for `edgetool pack`."""

from __future__ import annotations

import pytest

from edge_agent.errors import UsageError
from edgetool.commands.pack import parse_channels


@pytest.mark.parametrize(
    ("text", "problem"),
    [("p,,q", "expected different names"), ("p,p", "expected different names"), ("time", "'time' cannot be a channel")],
)
def test_channels_that_cannot_be_meant_are_refused(text: str, problem: str) -> None:
    """Before anything is read."""
    with pytest.raises(UsageError, match=problem):
        parse_channels(text)
