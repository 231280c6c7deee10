"""What the service would find that root finds good: another user, another folder, and credentials."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_agent.cli.options import DEFAULT_CONFIG
from edge_agent.config.inputs import is_device
from edge_agent.config.service_state import service_state_dir
from edge_agent.config.settings import Config
from edge_agent.errors import ConfigError, UsageError
from edge_agent.mqtt.settings import files_of
from edge_agent.service.unit import ServiceUnit, cannot_read, read_unit, unit_of

__all__ = ["as_service", "credentials_of_service", "is_for_service", "not_given", "see_as_service"]

_SECRETS = DEFAULT_CONFIG.with_name("credentials")
"""What `edge-agent install` gives to the service."""


def is_for_service(options: argparse.Namespace) -> bool:
    """Whether to look as the service's user does: as asked, or for root where the configuration is the service's.

    Raises:
        UsageError: it was asked for, and we are not root.
    """
    asked: bool | None = options.as_service
    if asked and os.geteuid() != 0:
        raise UsageError("--as-service: only root can look as another user does; run it as root")
    if asked is None:
        # Rows to compare with are the caller's own.
        return _is_roots(options.config) and options.data is None
    return asked


def _is_roots(config: Path) -> bool:
    """Root asks about the service's configuration."""
    return os.geteuid() == 0 and config.resolve().parent == DEFAULT_CONFIG.parent


@contextmanager
def as_service(config: Path) -> Iterator[ServiceUnit]:
    """In the block, the configuration is read with what its unit gives: the state folder, and copies of credentials.

    Raises:
        ConfigError: a credential's file is not there.
    """
    unit = read_unit(unit_of(config))
    problems = [
        f"{unit.name}: LoadCredential={name}:{place}: no such file; the service ends with 243"
        for name, place in unit.credentials.items()
        if not place.is_file()
    ]
    if problems:
        raise ConfigError(*problems)
    state = unit.name.removesuffix(".service").replace("@", "-")
    with _given(unit.credentials, {"STATE_DIRECTORY": str(service_state_dir(state))}):
        yield unit


@contextmanager
def credentials_of_service(config: Path) -> Iterator[None]:
    """In the block, root reads the service's configuration with the secrets that its unit gives to it alone.

    Where there is no unit any more, these are the files in the folder for secrets. Nobody else is given any.
    """
    if not _is_roots(config) or "CREDENTIALS_DIRECTORY" in os.environ:
        yield
        return
    unit = read_unit(unit_of(config))
    found = unit.credentials if unit.is_known else {path.name: path for path in _SECRETS.glob("[!.]*")}
    with _given({name: place for name, place in found.items() if place.is_file()}, {}):
        yield


@contextmanager
def _given(credentials: Mapping[str, Path], environ: Mapping[str, str]) -> Iterator[None]:
    with TemporaryDirectory(prefix="edge-agent-") as folder:
        for name, place in credentials.items():
            (Path(folder) / name).touch(mode=0o600)
            shutil.copyfile(place, Path(folder) / name)
        given = {"CREDENTIALS_DIRECTORY": folder, **environ}
        before = {name: os.environ.get(name) for name in given}
        os.environ.update(given)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def not_given(unit: ServiceUnit, secrets: Path = _SECRETS) -> list[str]:
    """A line for each file among the secrets that the unit does not give to its service."""
    places = {place.resolve() for place in unit.credentials.values()}
    files = sorted(path for path in secrets.glob("[!.]*") if path.is_file() and path.resolve() not in places)
    return [f"{path}: {unit.name} does not give it to its service yet; run edge-agent install" for path in files]


def see_as_service(path: Path, config: Config, unit: ServiceUnit) -> None:
    """See that the service's user can read all that the configuration names, and the program.

    Args:
        path: of the configuration.
        config: read inside `as_service`.
        unit: of the service.

    Raises:
        ConfigError: it cannot; the text has a line for each file, with what to do.
    """
    try:
        ids = unit.ids()
    except KeyError as exc:
        raise ConfigError(f"{unit.name}: {exc.args[0]}; make it, or correct User= or SupplementaryGroups=") from exc
    needed = _needed(path, config)
    whose = f"user {unit.user}" if unit.user else "the user that systemd makes for the service"
    unreadable = cannot_read(list(needed), ids)
    if unreadable:
        raise ConfigError(
            *(f"{place}: {whose} cannot read it ({why}); {needed[place]}" for place, why in unreadable.items())
        )


def _needed(path: Path, config: Config) -> dict[Path, str]:
    """Each file that the service reads, with what to do where it cannot."""
    readable = "chmod a+r, and a+x on the folders above it, or put it into /etc/edge-agent"
    needed = {path: readable}
    needed |= dict.fromkeys((Path(stream.bundle) for stream in config.streams), readable)
    needed |= {
        Path(stream.input): readable
        for stream in config.streams
        if stream.input not in (None, "-") and not is_device(stream)
    }
    needed |= dict.fromkeys((Path(library.path) for library in config.engine.custom_ops), readable)
    needed |= dict.fromkeys((Path(key) for key in config.trust.keys), readable)
    program = "install the agent where every user may read it, such as /opt/edge-agent"
    needed |= dict.fromkeys((Path(sys.executable), Path(__file__)), program)
    credentials = Path(os.environ["CREDENTIALS_DIRECTORY"])
    for name, broker in (("mqtt", config.mqtt), ("mqtt-alerts", config.mqtt.alerts)):
        for file in [] if broker is None else files_of(broker):
            if file.parent != credentials:
                needed[file] = _secret_advice(name, file, config)
    return needed


def _secret_advice(name: str, file: Path, config: Config) -> str:
    broker = config.mqtt if name == "mqtt" else config.mqtt.alerts
    key = next(
        key for key in ("ca", "cert", "key", "username", "password") if getattr(broker, f"{key}_file") == str(file)
    )
    give = f"LoadCredential={name}-{key}:{file.absolute()}"
    return f"give it as a credential, {give} in a drop-in of the unit, and leave out {key}_file"
