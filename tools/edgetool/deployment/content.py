"""What lies in /etc/edge-agent on the device: the configuration, its bundles, and other files that it names."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.bundle import open_bundle
from edge_agent.config.inputs import extras_of
from edge_agent.config.load import load_config
from edge_agent.config.settings import Config
from edge_agent.errors import ConfigError, UsageError
from edge_agent.mqtt.settings import BrokerSettings
from edge_agent.trust import load_keys

__all__ = ["Content", "read_content"]

_CONFIG = "agent.toml"
_SETTINGS = Path("/etc/edge-agent")
_STATE = "/var/lib/edge-agent"
"""Which systemd makes on the device."""
_SECRETS = {"username_file": "username", "password_file": "password", "key_file": "key"}
"""Keys of a broker whose files are never put into an archive, and what the credential in their place ends with."""


@dataclass(frozen=True, slots=True)
class Content:
    """Files for the device, and what it must have besides."""

    config: Path
    bundles: tuple[Path, ...]
    others: tuple[Path, ...]
    """Certificates, public keys and libraries of operators that lie beside the configuration."""
    wanted: tuple[str, ...]
    """A line for each file that the configuration names and that is not among these."""
    extras: tuple[str, ...] = ()
    """Of the agent, for what the configuration asks for."""

    def put(self, folder: Path) -> str:
        """Put the files into an archive's folder `files`; gives the options that name them to the installer."""
        folder.mkdir()
        (folder / _CONFIG).write_bytes(self.config.read_bytes())
        given = [f'--config "$here/files/{_CONFIG}"']
        for option, paths in (("bundle", self.bundles), ("file", self.others)):
            for path in paths:
                (folder / path.name).write_bytes(path.read_bytes())
                given.append(f'--{option} "$here"/files/{shlex.quote(path.name)}')
        return " ".join(given)


def read_content(config: Path, bundles: Sequence[Path]) -> Content:
    """Look at what is to be deployed, and refuse what would not start on the device.

    Args:
        config: agent.toml.
        bundles: those that it names.

    Raises:
        BundleError: one is none.
        ConfigError: the configuration has problems, or names a file of its folder that is not there or not given.
        MissingExtraError: signatures are asked for, and what checks them is not installed.
        TrustError: one is signed by none of the keys that lie beside the configuration, where all of them do.
        UsageError: two files have one name, or nobody names a bundle.
    """
    settings = load_config(config.resolve(), (f"agent.state_dir={_STATE}",), is_here=False)
    folder = config.resolve().parent
    given = {path.name: path for path in bundles}
    problems: list[str] = []
    named: set[str] = set()
    for stream in settings.streams:
        name = _name_on_device(folder, stream.bundle, f"stream {stream.name}: bundle", problems)
        if name is not None and name not in given:
            problems.append(f"stream {stream.name}: {name} is not among the bundles given")
        named.add(Path(stream.bundle).name)
    others, wanted = _others(settings, folder, problems)
    if problems:
        raise ConfigError(*(f"{config}: {problem}" for problem in problems))
    if unused := sorted(given.keys() - named):
        raise UsageError(f"{', '.join(unused)}: no stream of {config} names it")
    _check_bundles(settings, folder, bundles)
    names = [_CONFIG, *(path.name for path in (*bundles, *others))]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{', '.join(twice)}: two files have this name, and all lie in {_SETTINGS}")
    return Content(config, tuple(bundles), tuple(others), tuple(wanted), tuple(extras_of(settings)))


def _check_bundles(settings: Config, folder: Path, bundles: Sequence[Path]) -> None:
    """Refuse a bundle that the device would not open."""
    files = [folder / Path(key).name for key in settings.trust.keys]
    keys = load_keys(files) if files and all(file.is_file() for file in files) else None
    for path in bundles:
        open_bundle(path, keys)


def _others(settings: Config, folder: Path, problems: list[str]) -> tuple[list[Path], list[str]]:
    """Files besides bundles that are taken along, and a line for each that the device must have."""
    others: dict[str, Path] = {}
    wanted: list[str] = []
    for key, text in _files(settings):
        path = Path(text)
        credential = _SECRETS.get(key.rpartition(" ")[2])
        if credential is not None:
            name = f"{'mqtt-alerts' if 'alerts' in key else 'mqtt'}-{credential}"
            wanted.append(
                f"{key} = {text!r} is a secret, which no archive holds: on the device, put it to "
                f"{_SETTINGS}/credentials/{name}, and leave the key out"
            )
            continue
        is_beside, here = path.is_relative_to(folder), folder / path.name
        if is_beside and _name_on_device(folder, text, key, problems) is None:
            continue
        if (is_beside or path.parent == _SETTINGS) and here.is_file():
            others[here.name] = here
        elif is_beside:
            problems.append(f"{key} = {text!r}: no such file")
        else:
            wanted.append(f"{key} = {text!r} has to be on the device already")
    return [*others.values()], wanted


def _files(settings: Config) -> Iterator[tuple[str, str]]:
    """Keys that name a file, but for bundles and inputs; each with its path."""
    brokers: list[tuple[str, BrokerSettings]] = [("[mqtt]", settings.mqtt)]
    if settings.mqtt.alerts is not None:
        brokers.append(("[mqtt.alerts]", settings.mqtt.alerts))
    for section, broker in brokers:
        for key in ("ca_file", "cert_file", *_SECRETS):
            if (path := getattr(broker, key)) is not None:
                yield f"{section} {key}", path
    for path in settings.trust.keys:
        yield "[trust] keys", path
    for library in settings.engine.custom_ops:
        yield "[[engine.custom_ops]] path", library.path


def _name_on_device(folder: Path, text: str, key: str, problems: list[str]) -> str | None:
    """The name of a file in /etc/edge-agent; None, and a problem, if it would not be found there."""
    path = Path(text)
    if path.parent in (folder, _SETTINGS):
        return path.name
    problems.append(
        f"{key} = {text!r} would not be found on the device, where all lies in {_SETTINGS}; write {path.name!r}"
    )
    return None
