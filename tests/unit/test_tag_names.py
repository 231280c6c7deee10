"""The names of data points on the databus of Industrial Edge, by the forms of its API definition."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.settings import topic_filters
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.reading import Readings, Rejection, RejectReason
from edge_agent.messages.topic import Topic
from edge_agent.sources.decode import Decoder
from edge_agent.sources.formats import SIEMENS_IE
from edge_agent.sources.mapping.mapping import with_preset
from edge_agent.sources.mapping.settings import PayloadSettings
from edge_agent.sources.tag_names import TagNames

WRITTEN = "ie/d/j/simatic/v1/s7c1/dp/r/+/default"
DATA = "ie/d/j/simatic/v1/s7c1/dp/r/PLC1/default"
METADATA = "ie/m/j/simatic/v1/s7c1/dp"
AT = "2025-11-21T04:40:00.250Z"
AT_S = 1_763_700_000.25


def metadata(names: dict[str, str], topic: str = DATA) -> bytes:
    """What a connector says of one collection."""
    points = [{"name": name, "id": each, "dataType": "Real"} for each, name in names.items()]
    collection = {"name": "default", "topic": topic, "publishType": "bulk", "dataPointDefinitions": points}
    connection = {"name": "PLC1", "type": "S7", "dataPoints": [collection]}
    return json.dumps({"seq": 1, "hashVersion": 7, "connections": [connection]}).encode()


def bulk(values: dict[str, Any], **more: Any) -> bytes:
    """A message of values by id."""
    return json.dumps(
        {"seq": 7, **more, "vals": [{"id": each, "qc": 3, "ts": AT, "val": value} for each, value in values.items()]}
    ).encode()


class Listener:
    """A decoder with the topics of a stream."""

    def __init__(self, written: str = WRITTEN, channels: tuple[str, ...] = ("pressure", "flow"), **more: Any) -> None:
        payload = with_preset(PayloadSettings(preset=SIEMENS_IE, **more))
        self.filters = topic_filters(written, None, SIEMENS_IE)
        self.decoder = Decoder(channels, payload=payload, topics=(written,))

    def hear(self, topic: str, payload: bytes) -> tuple[Readings, list[Rejection]]:
        """One message."""
        route = self.filters.route_of(topic)
        assert route is not None
        return self.decoder.decode([Delivery(Topic(topic.encode(), *route), payload, 0, False)], 5.0)

    @property
    def names(self) -> TagNames:
        """Of the decoder."""
        assert isinstance(self.decoder.metadata, TagNames)
        return self.decoder.metadata


def test_ids_get_the_names_of_the_metadata_also_when_they_change() -> None:
    """Nothing is scored under a name that an id no longer has."""
    listener = Listener()
    assert len(listener.hear(METADATA, metadata({"101": "pressure", "102": "flow", "103": "door"}))[0]) == 0
    found, rejections = listener.hear(DATA, bulk({"101": 4.1, "102": "0.82", "103": 1}))
    assert not rejections
    assert (found.assets, found.times) == (["PLC1"], [AT_S])
    np.testing.assert_allclose(found.values, [[4.1, 0.82]], rtol=1e-6)
    assert dict(listener.decoder.ignored) == {"door": 1}
    listener.hear(METADATA, metadata({"101": "flow", "102": "pressure"}))
    found, _ = listener.hear(DATA, bulk({"101": 0.82, "102": 4.1}))
    np.testing.assert_allclose(found.values, [[4.1, 0.82]], rtol=1e-6)
    assert listener.names.describe() == {"known": 1, "names": 2, "changes": 1}


def test_without_metadata_no_value_is_guessed() -> None:
    """The message is told, with the topic that the names would come on."""
    listener = Listener()
    _, (rejection,) = listener.hear(DATA, bulk({"101": 4.1}))
    assert rejection.reason is RejectReason.NO_METADATA
    assert f"the metadata on {METADATA} were not heard yet" in rejection.detail
    listener.hear(METADATA, metadata({"1": "pressure"}, topic=DATA.replace("PLC1", "PLC2")))
    _, (rejection,) = listener.hear(DATA, bulk({"101": 4.1}))
    assert f"have no data points of {DATA}" in rejection.detail


def test_a_stream_may_call_its_channels_by_their_ids() -> None:
    """With metadata and without."""
    listener = Listener(channels=("101", "102"))
    for _ in range(2):
        found, rejections = listener.hear(DATA, bulk({"101": 4.1, "102": 0.82, "103": 5}))
        assert not rejections
        np.testing.assert_allclose(found.values, [[4.1, 0.82]], rtol=1e-6)
        listener.hear(METADATA, metadata({"101": "pressure", "102": "flow"}))


def test_a_restart_knows_the_names_at_once() -> None:
    """By the journal; metadata that say the same again are not written again."""
    listener = Listener()
    listener.hear(METADATA, metadata({"101": "pressure"}))
    records = listener.names.take_changed()
    listener.hear(METADATA, metadata({"101": "pressure"}))
    assert listener.names.take_changed() == []
    again = Listener()
    assert again.names.restore([*records, ("a1", b"x"), ("#tags/other", b"damaged")]) == [("a1", b"x")]
    found, rejections = again.hear(DATA, bulk({"101": 4.1}))
    assert (len(found), rejections) == (1, [])


@pytest.mark.parametrize(
    "payload",
    [
        {"seq": 1, "ts": AT, "vals": [{"id": "101", "qc": 3, "val": 4.1}]},
        {"seq": 1, "records": [{"rseq": 1, "ts": AT, "vals": [{"id": "101", "qc": 3, "val": 4.1}]}]},
        {"seq": 1, "ts": AT, "qc": 3, "val": 4.1},
    ],
    ids=["bulk with one time", "timeseries", "single"],
)
def test_each_form_that_a_collection_may_have_is_read(payload: dict[str, Any]) -> None:
    """As the metadata's `publishType` may be."""
    listener = Listener()
    listener.hear(METADATA, metadata({"101": "pressure"}))
    found, rejections = listener.hear(DATA, json.dumps(payload).encode())
    assert not rejections
    assert found.times == [AT_S]
    np.testing.assert_allclose(found.values, [[4.1, np.nan]], rtol=1e-6)


def test_a_bad_quality_is_missing() -> None:
    """Anything but 3."""
    listener = Listener()
    listener.hear(METADATA, metadata({"101": "pressure", "102": "flow"}))
    payload = json.loads(bulk({"101": 4.1, "102": 0.82}))
    payload["vals"][1]["qc"] = 0
    found, _ = listener.hear(DATA, json.dumps(payload).encode())
    np.testing.assert_allclose(found.values, [[4.1, np.nan]], rtol=1e-6)


def test_a_channel_that_has_lost_its_data_point_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody has renamed it in the connector; its silence alone would tell much later."""
    listener = Listener(channels=("pressure", "flow"))
    listener.hear(METADATA, metadata({"101": "pressure", "102": "flow"}))
    assert "no data point" not in caplog.text
    listener.hear(METADATA, metadata({"101": "pressure", "102": "flow_new"}))
    assert "no data point is called as these channels, by the metadata: flow" in caplog.text


@pytest.mark.parametrize(
    ("written", "metadata_topic"),
    [
        (WRITTEN, METADATA),
        (f"site1/{WRITTEN}", f"site1/{METADATA}"),
        (f"$share/g/{WRITTEN}", METADATA),
        ("ie/d/j/simatic/v1/{any}/dp/r/+/#", "ie/m/j/simatic/v1/+/dp"),
        ("plant/{any}/+/values", None),
    ],
)
def test_the_topic_of_the_metadata_is_subscribed_to(written: str, metadata_topic: str | None) -> None:
    """Its retained copies are wanted, those of values are not."""
    filters = topic_filters(written, None, SIEMENS_IE)
    assert filters.retained == ({metadata_topic} if metadata_topic else set())
    assert filters.subscriptions[1:] == ([metadata_topic] if metadata_topic else [])
    assert not filters.mixes_assets
    assert not filters.wants_retained(DATA)


def test_names_of_a_bridged_databus_are_found() -> None:
    """A bridge puts levels before the topics, of which the metadata know nothing."""
    listener = Listener(f"site1/{WRITTEN}")
    listener.hear(f"site1/{METADATA}", metadata({"101": "pressure"}))
    found, rejections = listener.hear(f"site1/{DATA}", bulk({"101": 4.1}))
    assert (len(found), rejections) == (1, [])


def test_a_name_may_be_taken_apart() -> None:
    """As any other sender's."""
    listener = Listener(names="{asset}.{channel}")
    listener.hear(METADATA, metadata({"101": "pump1.pressure", "102": "pump2.pressure"}))
    found, _ = listener.hear(DATA, bulk({"101": 4.1, "102": 4.2}))
    assert sorted(found.assets) == ["pump1", "pump2"]


def test_which_messages_have_a_time() -> None:
    """By it, repetitions are known."""
    names = Listener().names
    assert names.has_time(bulk({"101": 4.1}))
    assert not names.has_time(b'{"vals":[{"id":"101","val":1}]}')
    assert not names.has_time(metadata({"101": "pressure"}))
    assert not names.has_time(b"\xff")


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["vals", "records", "id", "val", "ts", "qc", "connections", "dataPoints"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(lambda document: json.dumps(document).encode()),
    st.sampled_from([DATA, METADATA]),
)
def test_no_bytes_end_the_reader(payload: bytes, topic: str) -> None:
    """Whatever comes is readings or one rejection."""
    listener = Listener()
    listener.hear(METADATA, metadata({"101": "pressure"}))
    _, rejections = listener.hear(topic, payload)
    assert len(rejections) <= 1
