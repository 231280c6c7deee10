"""What several commands take: the configuration, its bundles, and how to report."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import BundleError, ConfigError, TrustError

if TYPE_CHECKING:
    from edge_agent.bundle import Bundle, Manifest
    from edge_agent.config.settings import Config
    from edge_agent.stream.settings import StreamSettings

__all__ = [
    "DEFAULT_CONFIG",
    "add_config",
    "add_json",
    "add_set",
    "by_stream",
    "check_connections",
    "load",
    "load_running",
    "misfits",
    "open_bundles",
    "remarks",
]


DEFAULT_CONFIG = Path("/etc/edge-agent/agent.toml")


def add_config(command: argparse.ArgumentParser) -> None:
    """The options of a command that needs the configuration."""
    command.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="default: %(default)s")
    add_set(command)


def add_set(command: argparse.ArgumentParser) -> None:
    """The option that changes single settings."""
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="a setting outside of streams that wins over the file, such as mqtt.port=8883; may be given again",
    )


def add_json(command: argparse.ArgumentParser) -> None:
    """The option of a command that reports."""
    command.add_argument("--json", action="store_true", help="one JSON document on stdout")


def load(options: argparse.Namespace) -> Config:
    """The configuration that `add_config` names.

    Raises:
        ConfigError: it has problems.
    """
    from edge_agent.config.load import load_config

    return load_config(options.config, tuple(options.set))


def load_running(options: argparse.Namespace) -> Config:
    """The same with what came over the broker since: the bundles that run, and settings of their streams.

    Raises:
        ConfigError: it has problems.
    """
    from edge_agent.update.effective import with_updates

    return with_updates(load(options))


def open_bundles(config: Config) -> list[Bundle]:
    """Every stream's bundle, with the libraries that the configuration allows it.

    Raises:
        BundleError: some cannot be used; the text has a line for each.
        ConfigError: some need libraries that they may not have, or all readings of an asset; a line for each.
        MissingExtraError: what checks signatures is not installed.
        TrustError: some are not signed by a key of `[trust]`; the text has a line for each.
    """
    from edge_agent.bundle import open_bundle
    from edge_agent.config.shared import bundle_problem
    from edge_agent.config.trust import trusted_keys
    from edge_agent.engine.custom_ops import allow_configured

    bundles: list[Bundle] = []
    problems: list[str] = []
    not_trusted: list[str] = []
    not_allowed: list[str] = []
    keys = trusted_keys(config.trust)
    for stream in config.streams:
        try:
            bundles.append(stream.limited(allow_configured(open_bundle(Path(stream.bundle), keys), config.engine)))
            if (problem := bundle_problem(stream, bundles[-1].manifest)) is not None:
                not_allowed.append(problem)
        except TrustError as exc:
            not_trusted += exc.lines
        except BundleError as exc:
            problems += exc.lines
        except ConfigError as exc:
            not_allowed += exc.lines
    if not_trusted:
        raise TrustError(*not_trusted, *problems)
    if problems:
        raise BundleError(*problems)
    if not_allowed:
        raise ConfigError(*not_allowed)
    return bundles


def check_connections(path: Path, config: Config) -> None:
    """See that what a connection is made with can be used by this process: certificates, keys, authorities.

    Args:
        path: of the configuration, for messages.
        config: checked settings.

    Raises:
        ConfigError: something cannot be used; the text has a line for each broker.
    """
    from edge_agent.errors import BrokerError, ConfigError
    from edge_agent.mqtt.tls import make_context

    problems: list[str] = []
    for where, broker in (("[mqtt]", config.mqtt), ("[mqtt] [alerts]", config.mqtt.alerts)):
        try:
            if broker is not None and broker.uses_tls:
                make_context(broker)
        except BrokerError as exc:
            problems.append(f"{path}: {where} {exc}")
    if problems:
        raise ConfigError(*problems)


def by_stream(
    config: Config, bundles: list[Bundle], ask: Callable[[StreamSettings, Manifest], str | None]
) -> list[str]:
    """What is to be said of a stream's settings together with its bundle, a line each."""
    pairs = enumerate(zip(config.streams, bundles, strict=True), start=1)
    found = ((number, ask(stream.settings, bundle.manifest)) for number, (stream, bundle) in pairs)
    return [f"[[stream]] {number} {text}" for number, text in found if text is not None]


def misfits(config: Config, bundles: list[Bundle]) -> list[str]:
    """Settings that contradict a bundle, though its readings can be scored all the same; a line each."""
    from edge_agent.stream.settings import StreamSettings

    asks = (StreamSettings.problem_with, StreamSettings.problem_with_missing)
    return [text for ask in asks for text in by_stream(config, bundles, ask)]


def remarks(config: Config, bundles: list[Bundle]) -> list[str]:
    """What is worth a thought, and no reason not to start; a line each."""
    from edge_agent.agent.in_hand import is_writable_folder
    from edge_agent.config.trust import trust_remarks
    from edge_agent.mqtt.settings import broker_remarks
    from edge_agent.stream.settings import StreamSettings
    from edge_agent.update.effective import update_remarks

    brokers = {"[mqtt]": config.mqtt, "[mqtt.alerts]": config.mqtt.alerts}
    found = [f"{name} {text}" for name, broker in brokers.items() if broker for text in broker_remarks(broker)]
    found += [f"[trust] {text}" for text in trust_remarks(config.trust)]
    found += update_remarks(config)
    topics = {f"[[stream]] {each.name!r} topic": each.topic for each in config.streams if each.topic}
    for where, name in {"[agent] id": config.agent.id, **topics}.items():
        if "." in name:
            what = "RabbitMQ takes a dot in a topic for a slash, and NATS before 2.10 takes no such topic"
            found.append(f"{where} = {name!r}: {what}; write it without where the broker is one of those")
    runtime_dir = config.agent.runtime_dir
    if runtime_dir is not None and not is_writable_folder(runtime_dir):
        what = f"[agent] runtime_dir = {runtime_dir!r}: is no folder that we may write to"
        found.append(f"{what}, so a default one is used; make it, or correct the setting")
    for ask in (StreamSettings.remark_on, StreamSettings.remark_on_interval, StreamSettings.remark_on_missing):
        found += by_stream(config, bundles, ask)
    return found
