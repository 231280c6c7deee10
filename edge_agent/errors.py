"""The error classes. Each exists because a different person must act, and has an exit code."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccuracyError",
    "BrokerError",
    "BundleError",
    "ClusterError",
    "ConfigError",
    "ConversionError",
    "DataError",
    "EdgeError",
    "EngineError",
    "FleetError",
    "JournalError",
    "MissingExtraError",
    "ProviderError",
    "ServiceError",
    "TrustError",
    "UsageError",
]


class EdgeError(Exception):
    """Root of all expected errors: the text is for a person, the exit code for a script.

    Args:
        lines: the text, with one line for each problem. Names in a line may hold line ends of their own.
    """

    exit_code: ClassVar[int] = 1
    """Exit code of a command that ends with this error."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))


class UsageError(EdgeError):
    """The command line has options that make no sense, alone or together."""

    exit_code = 2


class BundleError(EdgeError):
    """A model bundle is missing, altered, or of a format this agent does not read."""

    exit_code = 65


class TrustError(EdgeError):
    """A bundle or a message is not signed by anybody who is trusted here."""

    exit_code = 65


class DataError(EdgeError):
    """A data file cannot be read or written, or its content is not sufficient."""

    exit_code = 65


class ConversionError(EdgeError):
    """A model cannot be converted; the text names the operator or tensor."""

    exit_code = 65


class AccuracyError(EdgeError):
    """A converted model runs, but its outputs differ from the original's by more than allowed."""

    exit_code = 65


class FleetError(EdgeError):
    """Agents do not have what they were asked to have: some have refused it, rolled it back, or are away."""

    exit_code = 65


class BrokerError(EdgeError):
    """The MQTT broker cannot be reached or refuses us."""

    exit_code = 69


class ProviderError(EdgeError):
    """The runtime is damaged, or no execution provider that may run gives the golden scores on this device."""

    exit_code = 69


class MissingExtraError(EdgeError):
    """A package of an optional extra is needed and not installed.

    Attributes:
        package: name in the registry.
        extra: the extra of `edge-agent` that installs it.
    """

    exit_code = 69

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"needs {package}, which is not installed; run: pip install 'edge-agent[{extra}]'")


class ServiceError(EdgeError):
    """systemd is not here, or does not start, stop or know the service."""

    exit_code = 69


class ClusterError(EdgeError):
    """The scheduler that work was to be handed to does not answer."""

    exit_code = 69


class EngineError(EdgeError):
    """The runtime failed on a verified bundle."""

    exit_code = 70


class JournalError(EdgeError):
    """The journal on disk cannot be opened or written."""

    exit_code = 70


class ConfigError(EdgeError):
    """`agent.toml` has problems; the text lists all of them, one line each."""

    exit_code = 78
