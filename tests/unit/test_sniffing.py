"""What `edgetool sniff` proposes for messages, tried on the messages."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.config.settings import StreamSection
from edge_agent.config.tables import read_table
from edgetool.sniffing.groups import Heard, group_messages
from edgetool.sniffing.likeness import likeness, match_names
from edgetool.sniffing.proposals import Proposal, propose
from edgetool.subscription import Message

CHANNELS: dict[str, str | None] = {"pressure": "bar", "flow": "l/s"}
AT_MS = 1_763_700_000_250
NAMES = ("p.Pressure", "p.Flow", "q.Pressure", "q.Flow")
CORPUS = Path(__file__).parents[1] / "faults" / "corpus" / "mapped"
SENDERS = Path(__file__).parents[2].parent / "shared" / "senders"


def proposal_of(*messages: tuple[str, Any], channels: dict[str, str | None] | None = CHANNELS) -> Proposal:
    """For messages that are one group."""
    encoded = [(topic, each if isinstance(each, bytes) else json.dumps(each).encode()) for topic, each in messages]
    (group,) = group_messages(encoded)
    found = propose(group, channels)
    assert found is not None
    return found


def stream_of(found: Proposal) -> StreamSection:
    """As the agent reads what is proposed."""
    problems: list[str] = []
    (table,) = tomllib.loads(found.toml("pump", "pump.edge"))["stream"]
    good = read_table(table, "[[stream]]", StreamSection, problems)
    assert not problems
    return StreamSection(**good)


@pytest.mark.parametrize(
    ("messages", "topic", "table"),
    [
        (
            [(f"plant/{asset}/pump", {"ts": AT_MS, "Pressure": 4.1, "flow_rate": 0.8}) for asset in ("a1", "a2")],
            "plant/{asset}/pump",
            {"time": "ts", "channels": {"pressure": "Pressure", "flow": "flow_rate"}},
        ),
        (
            [(f"p/{line}/{cell}", {"time": 1e9, "pressure": 1, "flow": 2}) for line in "ab" for cell in "cd"],
            "p/{part1}/{part2}",
            {},
        ),
        (
            [(f"x/{asset}/{name}/state", b"4.1") for asset in ("a1", "a2") for name in ("pressure", "flow")],
            "x/{asset}/{channel}/state",
            {},
        ),
        (
            [(f"x/{asset}/{name}", {"v": 1, "at": AT_MS}) for asset in ("a1", "a2") for name in ("pressure", "flow")],
            "x/{asset}/{channel}",
            {"value": "v", "time": "at"},
        ),
        (
            [
                (
                    "gw",
                    {
                        "d": {
                            "t": AT_MS,
                            "tags": [{"n": f"L1.{a}.{c}", "x": 1} for a in "pq" for c in ("Pressure", "Flow")],
                        }
                    },
                )
            ],
            "gw",
            {
                "rows": "d.tags[]",
                "name": "n",
                "value": "x",
                "names": "L1.{asset}.{channel}",
                "channels": {"pressure": "Pressure", "flow": "Flow"},
                "time": "../t",
            },
        ),
        (
            [
                (
                    "gw/a",
                    {
                        "head": {"when": "2025-11-21T04:40:00Z"},
                        "body": {"m.1": {"pressure": {"value": 4}, "flow": {"value": 1}}},
                    },
                )
            ],
            "gw/a",
            {
                "fields": ["body", "m.1"],
                "channels": {"pressure": "pressure.value", "flow": "flow.value"},
            },
        ),
        ([("i/a", b"pump,asset=a1 pressure=4.1,flow=0.82 1763700000250000000")], "i/a", {"format": "influx"}),
        (
            [("tele/a", {"fields": {"flow": 1, "pressure": 2}, "tags": {}, "timestamp": 1763700000})],
            "tele/a",
            {"preset": "telegraf"},
        ),
    ],
)
def test_the_table_of_a_form_is_found(messages: list[tuple[str, Any]], topic: str, table: dict[str, Any]) -> None:
    """Topic, rows, names, time; what it says is what the agent takes."""
    found = proposal_of(*messages)
    assert (found.topic, found.table) == (topic, table)
    assert found.rejected == 0
    assert all(found.channels.values())
    assert stream_of(found).filters.subscriptions


def test_what_a_person_should_look_at_is_said() -> None:
    """What is missing, what has no time, what was matched by likeness, what has no asset."""
    found = proposal_of(("plant/pump", {"Pressure_bar": 4.1}))
    told = "; ".join(found.remarks)
    for part in (
        "nothing was found for flow",
        "no time of their own",
        "pressure is Pressure_bar",
        "one asset, default",
    ):
        assert part in told


@pytest.mark.parametrize(
    "known", [{"Pressure": "bar", "flow": "l/s"}, None], ids=["a bundle's channels", "whatever there is"]
)
def test_ids_of_a_databus_get_the_names_that_were_heard(known: dict[str, str | None] | None) -> None:
    """The retained metadata come with the subscription; without them, only a stream of ids could be written."""
    data, metadata = "ie/d/j/simatic/v1/s7c1/dp/r/PLC1/default", "ie/m/j/simatic/v1/s7c1/dp"
    points = [{"id": "101", "name": "Pressure"}, {"id": "102", "name": "flow"}]
    said = {"connections": [{"dataPoints": [{"topic": data, "dataPointDefinitions": points}]}]}
    at = {"qc": 3, "ts": "2025-11-21T04:40:00.250Z"}
    values = {"seq": 7, "vals": [{"id": "101", "val": 4.1, **at}, {"id": "102", "val": 0.82, **at}]}
    (group,) = group_messages([(metadata, json.dumps(said).encode()), (data, json.dumps(values).encode())])
    found = propose(group, known)
    assert found is not None
    assert (found.table, found.channels, found.timed) == ({"preset": "siemens-ie"}, {"Pressure": 1, "flow": 1}, True)


def test_devices_that_speak_sparkplug_are_known_by_their_topic() -> None:
    """The metrics by a birth; without one, what to do."""
    birth, data = (CORPUS / f"sparkplug-{name}" for name in ("dbirth", "ddata"))
    messages = [
        (f"spBv1.0/plant/{kind}/node1/{device}", file.read_bytes()[2:])
        for device in ("pump1", "pump2")
        for kind, file in (("DBIRTH", birth), ("DDATA", data))
    ]
    found = proposal_of(*messages, channels={"Pressure": "bar", "level": None})
    assert found.topic == "spBv1.0/plant/DDATA/node1/+"
    assert found.table == {"preset": "sparkplug-b", "channels": {"Pressure": "pressure"}}
    assert stream_of(found).filters.subscriptions == ["spBv1.0/plant/+/node1/+", "spBv1.0/plant/+/node1"]
    (unknown,) = [propose(group, CHANNELS) for group in group_messages([messages[1]])]
    assert unknown is not None
    assert "no birth was heard" in unknown.remarks[0]


def test_messages_of_several_senders_are_several_groups() -> None:
    """By length and first level of the topic, and by form; noise is no proposal."""
    groups = group_messages(
        [
            ("plant/a1/pump", b'{"pressure": 1, "flow": 2}'),
            ("plant/a2/pump", b'{"flow": 2, "pressure": 1}'),
            ("plant/a1/door", b'{"open": true}'),
            ("home/lamp", b"on"),
            ("cam/1", bytes(range(256))),
        ]
    )
    found = {group.form: propose(group, CHANNELS) for group in groups}
    assert {form for form, each in found.items() if each is not None} == {"{flow, pressure}"}
    assert groups[0].topics == {"plant/a1/pump": 1, "plant/a2/pump": 1}


def test_what_is_remembered_is_bounded() -> None:
    """A broker may have any number of topics, and messages of any size."""
    heard = Heard()
    for number in range(3000):
        heard.add(Message(f"{number}/x", b"1", is_retained=False))
    heard.add(Message("big", b"1" * 100_000, is_retained=False))
    for _ in range(200):
        heard.add(Message("0/x", b"1", is_retained=False))
    assert heard.messages == 3201
    assert heard.left_out == 1001
    assert max(len(group.samples) for group in heard.groups()) <= 60


def test_any_numbers_are_channels_where_none_are_named() -> None:
    """But times are none."""
    found = proposal_of(("a/b", {"ts": AT_MS, "values": {"x": 1, "y": "2.5", "on": True, "name": "z"}}), channels=None)
    assert found.table == {"preset": "thingsboard"}
    assert list(found.channels) == ["x", "y", "on"]


_keys = st.sampled_from(["pressure", "Flow", "v", "n", "ts", "values", "a.b", "", "*", "0", "id", "metrics", "time"])
_numbers = st.floats() | st.sampled_from([10**400, -(10**400), 1_763_700_000_250])
_documents = st.recursive(
    st.none() | st.booleans() | _numbers | st.text(max_size=3) | st.sampled_from(["flow", "q.Pressure", "4.1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4),
)


@given(st.lists(st.binary(max_size=30) | _documents.map(lambda each: json.dumps(each).encode()), max_size=3))
@example([json.dumps({"pressure": 10**400, "flow": 2}).encode()])
def test_nothing_that_is_heard_ends_the_listening(payloads: list[bytes]) -> None:
    """Anybody at the broker can send anything, and what was heard before would be lost."""
    for group in group_messages([("plant/a1/pump", each) for each in payloads]):
        for channels in (CHANNELS, None):
            found = propose(group, channels)
            assert found is None or stream_of(found).filters.subscriptions


def test_names_that_are_alike() -> None:
    """Signs, capitals and further words; another thing is not alike."""
    assert likeness("motor_current", "MotorCurrent") == 1
    assert match_names(["pressure", "flow"], ["Pump1.Pressure", "FlowRate", "pressur"]) == {
        "pressure": "Pump1.Pressure",
        "flow": "FlowRate",
    }
    assert match_names(["temperature"], ["humidity", "state"]) == {}


NOT_FOUND = {"ifm", "sparkplug"}
"""Bytes in hex that look like numbers; binary."""


@pytest.mark.skipif(not SENDERS.is_dir(), reason="the samples are not part of the project")
@pytest.mark.parametrize("sender", sorted(path.stem for path in SENDERS.glob("*.json") if path.stem not in NOT_FOUND))
def test_a_table_is_found_for_a_real_sender(sender: str) -> None:
    """From its sample messages alone: every channel that they have, and the time if they have one."""
    sample = json.loads((SENDERS / f"{sender}.json").read_text())
    messages = []
    for message in sample["messages"]:
        text = message.get("payload_text")
        messages.append((message["topic"], json.dumps(message["payload"]).encode() if text is None else text.encode()))
    units = {"pressure": "bar", "flow": "l/s"}
    channels = {name: units.get(name) for name in sample["channels"]}
    found = [each for group in group_messages(messages) if (each := propose(group, channels)) is not None]
    assert len(found) == 1
    assert all(found[0].channels.values())
    assert found[0].timed is (sample["expected"]["time"] is not None and sender != "ha_statestream")
    assert stream_of(found[0]).filters.subscriptions
