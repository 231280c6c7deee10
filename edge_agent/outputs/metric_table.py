"""Which value of the health message is which metric: names and units by Prometheus's conventions.

No label has the name of an asset, and none a text that a sender makes up: labels must not grow without bound.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["INFO", "LABELLED", "OF_AGENT", "OF_STREAM", "SUMMARY", "Row"]


class Row(NamedTuple):
    """One metric."""

    key: str
    """Of the health message, with dots between levels."""
    name: str
    """Of a counter, without `_total`."""
    kind: str
    text: str

    is_problem: bool = False
    """The value is a text that says what is wrong, or null; the metric is 1 or 0."""

    def number(self, value: Any) -> float | None:
        """The metric's value; None where there is none."""
        if self.is_problem:
            return float(value is not None)
        return None if value is None else float(value)


OF_AGENT = (
    Row("uptime_s", "edge_agent_uptime_seconds", "gauge", "Time since the agent started."),
    Row("memory_bytes", "edge_agent_memory_pss_bytes", "gauge", "The process's share of the memory (PSS)."),
    Row("queue_depth", "edge_agent_events_waiting", "gauge", "Events of alerts that wait for the broker."),
    Row("journal_bytes", "edge_agent_events_waiting_bytes", "gauge", "Bytes that the waiting events take."),
    Row("published", "edge_agent_events_published", "counter", "Events that the broker has taken."),
    Row("dropped", "edge_agent_events_dropped", "counter", "Events given up by the journal's limits."),
    Row("journal_problem", "edge_agent_journal_failed", "gauge", "1 while the journal is not on the disk.", True),
    Row("reload_problem", "edge_agent_reload_refused", "gauge", "1 if the newest reload was refused.", True),
    Row("clock_synchronised", "edge_agent_clock_synchronised", "gauge", "1 while the device's clock is kept right."),
    Row("connects", "edge_agent_broker_connections", "counter", "Connections made to the readings' broker."),
    # Not of the message itself, but of its connections.
    Row("connected", "edge_agent_broker_connected", "gauge", "1 if every broker is connected."),
    Row("sparkplug_connected", "edge_agent_sparkplug_connected", "gauge", "1 if the node of Sparkplug B is connected."),
    Row("scores_left_out", "edge_agent_scores_left_out", "counter", "Scores of an interval that were not told."),
    Row("evidence.waiting_bytes", "edge_agent_evidence_waiting_bytes", "gauge", "Readings around raises that wait."),
    Row("evidence.dropped", "edge_agent_evidence_dropped", "counter", "Messages of such readings that were given up."),
    Row("unrouted", "edge_agent_messages_unrouted", "counter", "Messages that no stream has the topic of."),
)
OF_STREAM = (
    Row("received", "edge_agent_messages_received", "counter", "Messages with readings."),
    Row("repeated", "edge_agent_messages_repeated", "counter", "Messages that had been scored before."),
    Row("readings", "edge_agent_readings", "counter", "Readings in good messages."),
    Row("late", "edge_agent_readings_late", "counter", "Readings that came too late."),
    Row("incomplete", "edge_agent_readings_incomplete", "counter", "Readings of which a channel was missing."),
    Row("scored", "edge_agent_windows_scored", "counter", "Windows that got a score."),
    Row("not_finite", "edge_agent_scores_not_finite", "counter", "Scores that were no number."),
    Row("assets", "edge_agent_assets", "gauge", "Assets that are remembered."),
    Row("forgotten", "edge_agent_assets_forgotten", "counter", "Assets that made room for new ones."),
    Row("active_alerts", "edge_agent_alerts_active", "gauge", "Alerts that are open."),
    Row("untold.count", "edge_agent_alerts_untold", "gauge", "Open alerts that are not told, muted or in a storm."),
    Row("silent.count", "edge_agent_assets_silent", "gauge", "Assets that have an alert of silence."),
    Row("stuck.count", "edge_agent_assets_stuck", "gauge", "Assets with frozen values."),
    Row("drift.psi", "edge_agent_drift_psi", "gauge", "Population stability index of the last block of scores."),
)
LABELLED = (
    (
        Row("", "edge_agent_alert_events", "counter", "Events of alerts, also of those that are not told."),
        "event",
        ("raise=raised", "update=updated", "clear=cleared"),
    ),
    (Row("rejected", "edge_agent_messages_rejected", "counter", "Messages that could not be used."), "reason", ()),
)
"""Metrics of a stream with a label, and its values: `LABEL=KEY`, or all that is under the key."""
SUMMARY = Row("latency", "edge_agent_batch_seconds", "summary", "Time from taking a batch to its commit.")
INFO = Row("", "edge_agent_info", "gauge", "Versions, and what computes the scores of each stream; always 1.")
