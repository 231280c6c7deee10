"""edgetool: turns a trained model into a small, verified bundle. Every command is also a function here.

A path is given as text or as any `os.PathLike`, a choice as a member of its enum or as its text. What goes wrong is an
`EdgeError`; docs/api.md says which.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge_agent.errors import (
    AccuracyError,
    BrokerError,
    BundleError,
    ConversionError,
    DataError,
    EdgeError,
    FleetError,
    MissingExtraError,
    ProviderError,
    TrustError,
    UsageError,
)

if TYPE_CHECKING:
    from edge_agent.messages.event import AlertEvent, DroppedEvent, MutedEvent, SetAsideEvent, StormEvent
    from edgetool.believed import Doubt, WatchedEvent
    from edgetool.broker import BrokerAddress
    from edgetool.choices import (
        ErrorIn,
        FeaturesBy,
        HigherIs,
        Io,
        LayoutIs,
        Level,
        Precision,
        ScoreIs,
        SmoothIs,
        Target,
    )
    from edgetool.commands.backfill import BackfillReport, backfill
    from edgetool.commands.bench import BenchReport, bench
    from edgetool.commands.calibrate import CalibrateReport, calibrate
    from edgetool.commands.compare import CompareReport, compare
    from edgetool.commands.dashboard import dashboard
    from edgetool.commands.deploy import DeployReport, deploy
    from edgetool.commands.doctor import DoctorReport, doctor
    from edgetool.commands.evaluate import EvaluateReport, evaluate
    from edgetool.commands.evidence import EvidenceReport, evidence
    from edgetool.commands.export import ExportReport, export
    from edgetool.commands.fleet_deploy import DeploymentReport, fleet_deploy
    from edgetool.commands.fleet_status import FleetReport, fleet_status
    from edgetool.commands.fleet_wish import WishReport, fleet_recommission, fleet_rollback, fleet_settings
    from edgetool.commands.inspect import InspectReport, inspect
    from edgetool.commands.keygen import KeygenReport, keygen
    from edgetool.commands.optimize import OptimizeReport, optimize
    from edgetool.commands.pack import pack
    from edgetool.commands.quantize import quantize
    from edgetool.commands.record import RecordReport, record
    from edgetool.commands.replay import ReplayReport, replay
    from edgetool.commands.sign import SignReport, sign
    from edgetool.commands.sniff import SniffReport, sniff
    from edgetool.commands.verify import VerifyReport, verify_bundle
    from edgetool.commands.watch import watch
    from edgetool.detector.report import PackReport
    from edgetool.fleet.plan import FleetPlan, OnHalt
    from edgetool.precision.context import Converter
    from edgetool.precision.report import QuantizeReport, Verdict

__all__ = [
    "AccuracyError",
    "AlertEvent",
    "BackfillReport",
    "BenchReport",
    "BrokerAddress",
    "BrokerError",
    "BundleError",
    "CalibrateReport",
    "CompareReport",
    "ConversionError",
    "Converter",
    "DataError",
    "DeployReport",
    "DeploymentReport",
    "DoctorReport",
    "Doubt",
    "DroppedEvent",
    "EdgeError",
    "ErrorIn",
    "EvaluateReport",
    "EvidenceReport",
    "ExportReport",
    "FeaturesBy",
    "FleetError",
    "FleetPlan",
    "FleetReport",
    "HigherIs",
    "InspectReport",
    "Io",
    "KeygenReport",
    "LayoutIs",
    "Level",
    "MissingExtraError",
    "MutedEvent",
    "OnHalt",
    "OptimizeReport",
    "PackReport",
    "Precision",
    "ProviderError",
    "QuantizeReport",
    "RecordReport",
    "ReplayReport",
    "ScoreIs",
    "SetAsideEvent",
    "SignReport",
    "SmoothIs",
    "SniffReport",
    "StormEvent",
    "Target",
    "TrustError",
    "UsageError",
    "Verdict",
    "VerifyReport",
    "WatchedEvent",
    "WishReport",
    "backfill",
    "bench",
    "calibrate",
    "compare",
    "dashboard",
    "deploy",
    "doctor",
    "evaluate",
    "evidence",
    "export",
    "fleet_deploy",
    "fleet_recommission",
    "fleet_rollback",
    "fleet_settings",
    "fleet_status",
    "inspect",
    "keygen",
    "optimize",
    "pack",
    "quantize",
    "record",
    "replay",
    "sign",
    "sniff",
    "verify_bundle",
    "watch",
]

_HOMES = {
    "AlertEvent": "edge_agent.messages.event",
    "BackfillReport": "edgetool.commands.backfill",
    "BenchReport": "edgetool.commands.bench",
    "BrokerAddress": "edgetool.broker",
    "CalibrateReport": "edgetool.commands.calibrate",
    "CompareReport": "edgetool.commands.compare",
    "Converter": "edgetool.precision.context",
    "DeployReport": "edgetool.commands.deploy",
    "DeploymentReport": "edgetool.commands.fleet_deploy",
    "DoctorReport": "edgetool.commands.doctor",
    "Doubt": "edgetool.believed",
    "DroppedEvent": "edge_agent.messages.event",
    "ErrorIn": "edgetool.choices",
    "EvaluateReport": "edgetool.commands.evaluate",
    "EvidenceReport": "edgetool.commands.evidence",
    "ExportReport": "edgetool.commands.export",
    "FeaturesBy": "edgetool.choices",
    "FleetPlan": "edgetool.fleet.plan",
    "FleetReport": "edgetool.commands.fleet_status",
    "HigherIs": "edgetool.choices",
    "InspectReport": "edgetool.commands.inspect",
    "Io": "edgetool.choices",
    "KeygenReport": "edgetool.commands.keygen",
    "LayoutIs": "edgetool.choices",
    "Level": "edgetool.choices",
    "MutedEvent": "edge_agent.messages.event",
    "OnHalt": "edgetool.fleet.plan",
    "OptimizeReport": "edgetool.commands.optimize",
    "PackReport": "edgetool.detector.report",
    "Precision": "edgetool.choices",
    "QuantizeReport": "edgetool.precision.report",
    "RecordReport": "edgetool.commands.record",
    "ReplayReport": "edgetool.commands.replay",
    "ScoreIs": "edgetool.choices",
    "SetAsideEvent": "edge_agent.messages.event",
    "SignReport": "edgetool.commands.sign",
    "SmoothIs": "edgetool.choices",
    "SniffReport": "edgetool.commands.sniff",
    "StormEvent": "edge_agent.messages.event",
    "Target": "edgetool.choices",
    "Verdict": "edgetool.precision.report",
    "VerifyReport": "edgetool.commands.verify",
    "WatchedEvent": "edgetool.believed",
    "WishReport": "edgetool.commands.fleet_wish",
    "backfill": "edgetool.commands.backfill",
    "bench": "edgetool.commands.bench",
    "calibrate": "edgetool.commands.calibrate",
    "compare": "edgetool.commands.compare",
    "dashboard": "edgetool.commands.dashboard",
    "deploy": "edgetool.commands.deploy",
    "doctor": "edgetool.commands.doctor",
    "evaluate": "edgetool.commands.evaluate",
    "evidence": "edgetool.commands.evidence",
    "export": "edgetool.commands.export",
    "fleet_deploy": "edgetool.commands.fleet_deploy",
    "fleet_recommission": "edgetool.commands.fleet_wish",
    "fleet_rollback": "edgetool.commands.fleet_wish",
    "fleet_settings": "edgetool.commands.fleet_wish",
    "fleet_status": "edgetool.commands.fleet_status",
    "inspect": "edgetool.commands.inspect",
    "keygen": "edgetool.commands.keygen",
    "optimize": "edgetool.commands.optimize",
    "pack": "edgetool.commands.pack",
    "quantize": "edgetool.commands.quantize",
    "record": "edgetool.commands.record",
    "replay": "edgetool.commands.replay",
    "sign": "edgetool.commands.sign",
    "sniff": "edgetool.commands.sniff",
    "verify_bundle": "edgetool.commands.verify",
    "watch": "edgetool.commands.watch",
}
"""Loaded on first use: importing onnx takes longer than most commands. No module here has one of these names, because
importing a module puts it into its package under its name."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgetool' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
