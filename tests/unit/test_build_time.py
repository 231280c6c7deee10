"""The time of a build that can be repeated."""

from __future__ import annotations

import pytest

from edge_agent.errors import UsageError
from edgetool.build_time import built_at


@pytest.mark.parametrize(("given", "seconds"), [("", None), ("0", 0), ("1763700000", 1763700000)])
def test_it_is_what_the_variable_says(monkeypatch: pytest.MonkeyPatch, given: str, seconds: int | None) -> None:
    """Empty is as if it were not set."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", given)
    assert built_at() == seconds


@pytest.mark.parametrize("given", ["now", "-1", "1.5", "²", "253402300800", "9" * 5000])
def test_another_value_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """In one line."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", given)
    with pytest.raises(UsageError, match=r"SOURCE_DATE_EPOCH=.*: expected seconds since 1970, such as 1763700000"):
        built_at()
