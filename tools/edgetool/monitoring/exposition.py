"""The dashboard's own figures, as Prometheus reads them. No name from a message is in them."""

from __future__ import annotations

from typing import Any

from edgetool.monitoring.history import History
from edgetool.monitoring.intake import Intake

__all__ = ["exposition"]


def exposition(figures: dict[str, Any], counts: dict[str, int], intake: Intake, history: History) -> str:
    """All figures in the text format 0.0.4.

    Args:
        figures: those of the application.
        counts: those of the model.
        intake: counts what came.
        history: the file.
    """
    agents = {"online": counts["agents_online"], "other": counts["agents_other"]}
    families: list[tuple[str, str, str, dict[str, float]]] = [
        ("broker_connected", "gauge", "Whether there is a connection to the broker.", {"": figures["connected"]}),
        ("agents", "gauge", "Agents by state.", _by("state", agents)),
        ("assets", "gauge", "Assets that are shown.", {"": counts["assets"]}),
        ("alerts_open", "gauge", "Open alerts.", {"": counts["alerts_open"]}),
        ("viewers", "gauge", "Pages that are open.", {"": figures["viewers"]}),
        ("messages_total", "counter", "Messages that came, by kind.", _by("kind", intake.messages)),
        ("doubted_total", "counter", "Messages that were not believed, by kind.", _by("kind", intake.doubted)),
        ("history_bytes", "gauge", "Size of the history.", {"": history.size_bytes}),
        ("history_dropped_total", "counter", "Rows that the history could not keep.", {"": history.dropped}),
        ("history_failing", "gauge", "Whether the history cannot be written.", {"": bool(history.problem)}),
    ]
    lines = []
    for name, kind, text, values in families:
        full = f"edgetool_dashboard_{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
        lines += [f"{full}{label} {float(value):.15g}" for label, value in values.items()]
    return "\n".join([*lines, ""])


def _by(label: str, values: dict[str, int]) -> dict[str, float]:
    return {f'{{{label}="{name}"}}': value for name, value in sorted(values.items())}
