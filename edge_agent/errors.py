"""The error tree. A class exists because a different person acts; each carries its exit code."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccuracyError",
    "BrokerError",
    "BundleError",
    "ConfigError",
    "ConversionError",
    "DataError",
    "EdgeError",
    "EngineError",
    "JournalError",
    "MissingExtraError",
    "ProviderError",
    "UsageError",
]


class EdgeError(Exception):
    """Root of all expected trouble: one line for a person, and an exit code for a script."""

    exit_code: ClassVar[int] = 1


class UsageError(EdgeError):
    """The command line asks for something that cannot be meant."""

    exit_code = 2


class BundleError(EdgeError):
    """A model bundle is missing, altered, or of a format this agent does not read."""

    exit_code = 65


class DataError(EdgeError):
    """A sensor data file cannot be read, or has too little in it."""

    exit_code = 65


class ConversionError(EdgeError):
    """A model cannot be converted; the text names the operator or tensor."""

    exit_code = 65


class AccuracyError(EdgeError):
    """A converted model runs but its answers moved further than allowed."""

    exit_code = 65


class BrokerError(EdgeError):
    """The MQTT broker cannot be reached or refuses us."""

    exit_code = 69


class ProviderError(EdgeError):
    """No execution provider that was asked for gives right scores on this device."""

    exit_code = 69


class MissingExtraError(EdgeError):
    """A package of an optional extra is needed and not installed."""

    exit_code = 69

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"needs {package}, which is not installed; run: pip install 'edge-agent[{extra}]'")


class EngineError(EdgeError):
    """The runtime failed on a bundle that had been verified."""

    exit_code = 70


class JournalError(EdgeError):
    """The journal on disk cannot be opened or written."""

    exit_code = 70


class ConfigError(EdgeError):
    """`agent.toml` is wrong; the text lists every problem, one line each."""

    exit_code = 78
