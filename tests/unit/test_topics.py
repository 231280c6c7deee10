"""Topic filters: which topic belongs to a stream, and which asset it is about."""

from __future__ import annotations

import pytest

from edge_agent.mqtt.topics import AgentTopics, TopicFilter


@pytest.mark.parametrize(
    ("text", "topic", "asset"),
    [
        ("sensors/+/pump", "sensors/a1/pump", "a1"),
        ("sensors/+/pump", "sensors/a1/fan", None),
        ("sensors/+/pump", "sensors/a1/pump/x", None),
        ("sensors/pump", "sensors/pump", "default"),
        ("+", "a1", "a1"),
        ("$share/group/sensors/+/pump", "sensors/a1/pump", "a1"),
    ],
)
def test_the_plus_is_the_asset(text: str, topic: str, asset: str | None) -> None:
    """One level stands for the asset; everything else must be equal."""
    assert TopicFilter(text).asset_of(topic) == asset


@pytest.mark.parametrize("text", ["", "a/#", "+/a/+", "a/b+/c", "#"])
def test_a_filter_that_names_no_single_asset_is_refused(text: str) -> None:
    """Two wildcards, or a rest, would leave the asset open."""
    with pytest.raises(ValueError, match="expected"):
        TopicFilter(text)


@pytest.mark.parametrize(
    ("left", "right", "overlap"),
    [("a/+/c", "a/b/+", True), ("a/+/c", "a/b/d", False), ("a/b", "a/b", True), ("a/+", "a/b/c", False)],
)
def test_overlap_is_symmetric(left: str, right: str, overlap: bool) -> None:
    """Some topic belongs to both."""
    assert TopicFilter(left).overlaps(TopicFilter(right)) is overlap
    assert TopicFilter(right).overlaps(TopicFilter(left)) is overlap


def test_the_agents_topics_are_those_of_the_interface() -> None:
    """Other programs subscribe to exactly these."""
    topics = AgentTopics("press-7")
    assert topics.alert("pump", "a1") == "edge/press-7/alerts/pump/a1"
    assert (topics.status, topics.health) == ("edge/press-7/status", "edge/press-7/health")
    assert topics.rejected == "edge/press-7/rejected"
