"""Versions sort as semver.org says, and what is none is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.versions import is_semantic, precedence

RISING = (
    "0.9.9",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0-0.3.7",
    "2.0.0",
    "10.0.0",
)
"""The examples of semver.org, in their order, and some that a comparison of texts gets wrong."""


def test_versions_rise_in_the_order_of_the_standard() -> None:
    """Numbers by value, words by letters, candidates before what they are candidates for."""
    assert sorted(random.Random(0).sample(RISING, len(RISING)), key=precedence) == list(RISING)
    assert len({precedence(version) for version in RISING}) == len(RISING)


def test_a_build_changes_nothing() -> None:
    """It says where a version was made, not which is the higher one."""
    assert precedence("1.0.0+linux.5") == precedence("1.0.0+other") == precedence("1.0.0")


@pytest.mark.parametrize(
    "version",
    ["1", "1.0", "v1.0.0", "01.0.0", "1.0.0-01", "1.0.0-", "1.0.0-a..b", "1.0.0+", "1.0.0\n", "٣.0.0", "1.0.0-ä", ""],
)
def test_what_is_no_semantic_version_is_known(version: str) -> None:
    """So that it is refused as an update and not sorted by chance."""
    assert not is_semantic(version)
    with pytest.raises(ValueError, match=r"is no semantic version, such as 1\.2\.0"):
        precedence(version)


@given(st.lists(st.tuples(*[st.integers(0, 10**9)] * 3), min_size=2, max_size=5))
def test_releases_sort_as_their_numbers(releases: list[tuple[int, int, int]]) -> None:
    """However many digits they have."""
    versions = [".".join(map(str, release)) for release in releases]
    assert sorted(versions, key=precedence) == [".".join(map(str, release)) for release in sorted(releases)]
