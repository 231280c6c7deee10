"""Brings what the assets score to hosts that speak Sparkplug B, over a connection of its own.

The node's death has to be the will of the connection that its births come by, and a connection has one will: that of
the agent's own is its status. This one has no session, as Sparkplug asks for, and no reading or alert goes by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from edge_agent import __version__
from edge_agent.agent.batch import Record
from edge_agent.agent.handover import birth_record, former_birth, keep_birth
from edge_agent.agent.stream import Stream
from edge_agent.config.settings import Config
from edge_agent.journal.journal import Journal
from edge_agent.messages.scores import ScoreReport
from edge_agent.mqtt.brokers import connections
from edge_agent.mqtt.client import ClientState, MqttClient
from edge_agent.mqtt.message import Message, Subscription
from edge_agent.mqtt.opening import Opener
from edge_agent.outputs.sparkplug import EdgeNode, Metric, device_metrics, device_name

__all__ = ["SparkplugNode"]

_LOOK_S = 1.0
_AT_ONCE = 20
"""Messages in one turn of the loop."""
_COMMANDS = 100

_Key = tuple[str, str]
"""Stream and asset."""


class SparkplugNode:
    """Of a running agent.

    Args:
        streams: all.
        config: checked settings, which have a group.
        journal: keeps the number of births over a restart.
        wake: see `MqttClient`.
    """

    def __init__(self, streams: Sequence[Stream], config: Config, journal: Journal, wake: Callable[[], None]) -> None:
        settings = config.sparkplug
        self._streams = {stream.name: stream for stream in streams}
        self._most = settings.most_assets
        self._journal = journal
        former = former_birth(journal)
        self._node = EdgeNode(settings.group or "", config.agent.id, version=__version__, former=former)
        # Everything that the agent publishes goes by the last of its connections, so to that broker.
        settings_of_broker, client_id = connections(config.mqtt, config.agent.id)[-1]
        client_id += "-sparkplug"
        opener = Opener(settings_of_broker, client_id=client_id, wake=wake, keeps_session=False)
        self._client = MqttClient(
            settings_of_broker,
            client_id=client_id,
            subscriptions=[Subscription(self._node.command_topic, 1)],
            former=[],
            will=self._will,
            birth=None,
            wake=wake,
            opener=opener,
        )
        self._session = ""
        self._is_born = False
        self._alarms: dict[_Key, bool] = {}
        """The devices, each with whether it has an alarm."""
        self._reports: dict[_Key, ScoreReport] = {}
        """What they scored last."""
        self._told: dict[_Key, list[Metric]] = {}
        """What hosts know of them: a metric that has not changed must not be told again."""
        self._deaths: list[_Key] = []
        self._births: list[_Key] = []
        self._news: dict[_Key, None] = {}
        """Devices that are to be told to be gone, to be there, or to have changed; in this order."""
        self._look_mono_s = 0.0
        self._rebirths = 0
        self._is_asked = False
        """A host wants all births."""
        self._again_mono_s = 0.0
        """When a host that asks is answered again at the soonest."""

    @property
    def record(self) -> Record:
        """What the next run has to know."""
        return birth_record(self._node.last)

    def wait_for(self, readers: list[int], writers: list[int]) -> float:
        """See `MqttClient.wait_for`."""
        due_mono_s = self._client.wait_for(readers, writers)
        return 0.0 if self._client.has_backlog else min(due_mono_s, self._look_mono_s)

    def note(self, report: ScoreReport) -> None:
        """Take what an asset scored. One that is new is born within a second, and may not score again for long."""
        key = report.stream, report.asset
        if key in self._alarms or len(self._reports) < self._most:
            self._reports[key] = report
        if key in self._alarms:
            self._news[key] = None

    def tick(self, now_mono_s: float) -> None:
        """Take commands, and tell what has changed; to be called in each turn of the loop."""
        client = self._client
        client.tick()
        commands = client.take(_COMMANDS)
        client.ack(commands)
        if any(self._node.is_rebirth(command.payload) for command in commands):
            self._rebirths += 1
            self._is_asked = True
        if client.state is ClientState.CONNECTED:
            if client.session != self._session:
                self._session = client.session
                self._begin_anew()
            elif self._is_asked and now_mono_s >= self._again_mono_s and not self._births:
                # Many hosts may ask at once, or one again and again: births that begin anew each time never end.
                self._again_mono_s = now_mono_s + _LOOK_S
                self._begin_anew()
            self._tell(now_mono_s)
        else:
            self._look_mono_s = math.inf
        client.flush()

    def describe(self) -> dict[str, Any]:
        """For the health message."""
        status = self._client.status
        what = {"state": status.state, "problem": status.last_error() or None}
        return {**what, "devices": len(self._alarms), "rebirths": self._rebirths}

    def close(self) -> None:
        """Say that the node is gone, and disconnect."""
        self._client.close(self._node.death(self._session) if self._session else None)

    def _will(self, session: str) -> Message:
        before, will = self._node.last, self._node.will(session, self._client.session)
        if self._node.last != before:
            keep_birth(self._journal, self._node.last)
        return will

    def _begin_anew(self) -> None:
        """The node and all devices are to be born again, and none of them has to be told to be gone."""
        self._is_asked = self._is_born = False
        self._births = [*self._alarms]
        self._deaths.clear()
        self._news.clear()
        self._look_mono_s = 0.0

    def _tell(self, now_mono_s: float) -> None:
        is_due = now_mono_s >= self._look_mono_s
        if is_due:
            self._look_mono_s = now_mono_s + _LOOK_S
        if not self._is_born:
            self._is_born = self._publish(self._node.birth(self._session))
        if self._is_born and is_due:
            self._look()
        if self._is_born and self._send():
            self._look_mono_s = now_mono_s  # there is more

    def _look(self) -> None:
        """Find out which devices there are, and which of them have an alarm."""
        untold = {name: {*stream.suppression.untold()} for name, stream in self._streams.items()}
        known = {name: stream.pipeline.assets() for name, stream in self._streams.items()}
        for key in [key for key in self._alarms if key[1] not in known[key[0]]]:
            del self._alarms[key]
            self._reports.pop(key, None)
            self._told.pop(key, None)
            self._news.pop(key, None)
            if key in self._births:
                self._births.remove(key)
            else:
                self._deaths.append(key)
        for key in islice(self._newcomers(), self._most - len(self._alarms)):
            self._alarms[key] = False
            self._births.append(key)
        for key in [key for key in self._reports if key not in self._alarms]:
            del self._reports[key]
        for key, before in self._alarms.items():
            name, asset = key
            is_alarm = asset not in untold[name] and self._streams[name].pipeline.standings.has_alert(asset)
            if is_alarm is not before:
                self._alarms[key] = is_alarm
                self._news[key] = None

    def _newcomers(self) -> list[_Key]:
        found = ((name, asset) for name, stream in self._streams.items() for asset in stream.pipeline.roster.assets())
        return [key for key in found if key not in self._alarms] if len(self._alarms) < self._most else []

    def _send(self) -> bool:
        """Send some of what is to be told; gives whether there is more that would go now."""
        for _ in range(_AT_ONCE):
            if self._deaths:
                if not self._publish(self._node.device_death(device_name(*self._deaths[0]))):
                    return False
                del self._deaths[0]
            elif self._births:
                if not self._tell_device(self._births[0], is_born=False):
                    return False
                del self._births[0]
            elif self._news:
                if not self._tell_device(next(iter(self._news)), is_born=True):
                    return False
            else:
                return False
        return bool(self._deaths or self._births or self._news)

    def _tell_device(self, key: _Key, *, is_born: bool) -> bool:
        """Tell all of a device in its birth, or what has changed since; False if the connection does not take it."""
        metrics = device_metrics(self._reports.get(key), is_alarm=self._alarms[key])
        name = device_name(*key)
        if is_born:
            changed = [metric for metric in metrics if metric not in self._told[key]]
            is_taken = not changed or self._publish(self._node.device_data(name, changed))
        else:
            is_taken = self._publish(self._node.device_birth(name, metrics))
        if is_taken:
            self._told[key] = metrics
            # A birth has all that was new.
            self._news.pop(key, None)
        return is_taken

    def _publish(self, message: Message) -> bool:
        """Send a message that has the next number; False if the connection does not take it now."""
        if self._client.publish(message) is None:
            return False
        self._node.sent()
        return True
