"""Topic filters: which topic belongs to a stream, and which asset it is about."""

from __future__ import annotations

import pytest

from edge_agent.messages.topic import Topics
from edge_agent.messages.topic_names import AgentTopics, TopicFilter, TopicFilters


@pytest.mark.parametrize(
    ("text", "topic", "route"),
    [
        ("sensors/+/pump", "sensors/a1/pump", ("a1", None)),
        ("sensors/{asset}/pump", "sensors/a1/pump", ("a1", None)),
        ("sensors/+/pump", "sensors/a1/fan", None),
        ("sensors/+/pump", "sensors/a1/pump/x", None),
        ("sensors/+/pump", "sensors//pump", None),
        ("sensors/+/pump", f"sensors/{'a' * 256}/pump", ("a" * 256, None)),
        ("sensors/+/pump", f"sensors/{'a' * 257}/pump", None),
        ("sensors/+/pump", "sensors/a\x01/pump", None),
        ("sensors/pump", "sensors/pump", ("default", None)),
        ("+", "a1", ("a1", None)),
        ("$share/group/sensors/+/pump", "sensors/a1/pump", ("a1", None)),
        ("plant/{asset}/{channel}", "plant/a1/flow", ("a1", "flow")),
        ("plant/{channel}/+", "plant/flow/a1", ("a1", "flow")),
        ("acme/{any}/{asset}/{any}/press", "acme/l1/a1/x/press", ("a1", None)),
        ("acme/{asset}/#", "acme/a1", ("a1", None)),
        ("acme/{asset}/#", "acme/a1/b/c", ("a1", None)),
        ("acme/{asset}/#", "other/a1/b/c", None),
        ("acme/{asset}/{channel}/#", "acme/a1", None),
        ("acme/{asset}/{channel}/#", "acme/a1/flow/raw", ("a1", "flow")),
    ],
)
def test_a_topic_says_asset_and_channel(text: str, topic: str, route: tuple[str, str | None] | None) -> None:
    """One level stands for the asset, one may stand for the channel; everything else must be equal."""
    assert TopicFilter(text).route_of(topic) == route


def test_placeholders_are_subscribed_to_as_wildcards() -> None:
    """The broker knows no names for them."""
    assert TopicFilter("plant/{asset}/{channel}").subscription == "plant/+/+"
    assert TopicFilter("$share/g/plant/+").subscription == "$share/g/plant/+"


@pytest.mark.parametrize(
    ("text", "asset", "told"),
    [
        ("", None, "at least one level"),
        ("+/a/+", None, "once, which '\\+' stands for, too"),
        ("+/{asset}", None, "once"),
        ("a/b+/c", None, "stand alone"),
        ("a/{what", None, "names in braces"),
        ("a/{line}/{cell}", None, r'asset = "\{line\}-\{cell\}"'),
        ("a/{line}", "{row}", r"has no '\{row\}', but '\{line\}'"),
        ("a/{line}", "press", "names in braces"),
        ("{channel}/{channel}", None, "once"),
        ("#", None, "more than '#'"),
        ("{any}/#", None, "more than '#'"),
        ("a/#/b", None, "at the end"),
        ("a/b#", None, "at the end"),
        ("a/\x07", None, "control characters"),
    ],
)
def test_a_filter_that_leaves_something_open_is_refused(text: str, asset: str | None, told: str) -> None:
    """With what to write."""
    with pytest.raises(ValueError, match=told):
        TopicFilter(text, asset)


def test_an_asset_is_made_of_several_levels() -> None:
    """By a template; the topic's own form is what is subscribed to."""
    topic = TopicFilter("acme/{line}/{cell}/press", "{line}-{cell}")
    assert topic.subscription == "acme/+/+/press"
    assert topic.route_of("acme/l1/c2/press") == ("l1-c2", None)
    assert topic.route_of("acme/l1/c2/fan") is None
    shared = TopicFilter("$share/g/acme/{line}/{any}/#", "{line}")
    assert shared.subscription == "$share/g/acme/+/+/#"
    assert shared.route_of("acme/l1/x/y/z") == ("l1", None)


def test_a_stream_may_have_topics_at_several_depths() -> None:
    """Of one channel each; two that have a topic in common would bring its messages twice."""
    topics = TopicFilters([TopicFilter("p/{asset}/{channel}"), TopicFilter("p/{asset}/motor/{channel}")])
    assert topics.subscriptions == ["p/+/+", "p/+/motor/+"]
    assert topics.route_of("p/a1/motor/speed") == ("a1", "speed")
    assert topics.route_of("p/a1/flow") == ("a1", "flow")
    with pytest.raises(ValueError, match="in common"):
        TopicFilters([TopicFilter("p/{asset}/#"), TopicFilter("p/{asset}/motor")])
    with pytest.raises(ValueError, match="in all of them, or in none"):
        TopicFilters([TopicFilter("p/{asset}/{channel}"), TopicFilter("q/{asset}")])


@pytest.mark.parametrize(
    ("left", "right", "overlap"),
    [
        ("a/+/c", "a/b/{any}", True),
        ("a/+/c", "a/b/d", False),
        ("a/b", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a/b/c", True),
        ("a/b/#", "a/b", True),
        ("a/b/#", "a/c/#", False),
        ("a/b/c/#", "a/b", False),
    ],
)
def test_overlap_is_symmetric(left: str, right: str, overlap: bool) -> None:
    """Some topic belongs to both."""
    assert TopicFilter(left).overlaps(TopicFilter(right)) is overlap
    assert TopicFilter(right).overlaps(TopicFilter(left)) is overlap


def test_what_was_no_text_names_no_asset() -> None:
    """Bytes that are no UTF-8 were replaced on their way, so that two assets could have one name."""
    assert TopicFilter("sensors/+/pump").route_of(b"sensors/\xff\xfe/pump".decode(errors="replace")) is None


def test_the_agents_topics_are_those_of_the_interface() -> None:
    """Other programs subscribe to exactly these."""
    topics = AgentTopics("press-7")
    assert topics.alert("pump", "a1") == "edge/press-7/alerts/pump/a1"
    assert (topics.status, topics.health) == ("edge/press-7/status", "edge/press-7/health")
    assert topics.rejected == "edge/press-7/rejected"


def test_what_is_noted_of_topics_is_bounded_by_bytes() -> None:
    """Anybody may write to new topics, and one may be 64 kB long; those of usual length are all noted."""
    topics = Topics()
    for number in range(1000):
        name = b"sensors/%060000d/pump" % number
        assert topics.meet(name, name) is topics[name]
    assert sum(map(len, topics)) <= 32 << 20
    topics = Topics()
    for number in range(80_000):
        topics.meet(number, b"sensors/machine-%d/pressure" % number)
    assert len(topics) == 80_000
