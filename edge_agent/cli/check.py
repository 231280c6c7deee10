"""`edge-agent check`: would the agent start?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.bundle import Bundle, Manifest
from edge_agent.cli.options import (
    add_config,
    add_json,
    by_stream,
    check_connections,
    load_running,
    misfits,
    open_bundles,
    remarks,
)
from edge_agent.config.settings import Config, StreamSection
from edge_agent.errors import ConfigError, ProviderError
from edge_agent.messages.scores import Engine
from edge_agent.stream.settings import StreamSettings
from edge_agent.terminal import json_text, say

if TYPE_CHECKING:
    from edge_agent.cli.check_data import DataFit

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config(command)
    command.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="compare readings (.csv, .csv.gz, .npz) with what the bundle knows; ends with 65 if they are others",
    )
    command.add_argument(
        "--payload",
        metavar="FILE",
        help="show what a captured message becomes (its bytes as they came; - for the standard input), with --topic: "
        "mosquitto_sub -C 1 -t 'plant/#' | edge-agent check --payload - --topic plant/a1/pump",
    )
    command.add_argument("--topic", metavar="T", help="the topic that the message of --payload came on")
    command.add_argument("--stream", help="the stream that the data are for; the only one when not given")
    command.add_argument(
        "--as-service",
        action=argparse.BooleanOptionalAction,
        help="look as the service's user does, with the credentials of its unit; by default for root with a "
        "configuration in /etc/edge-agent, unless --data is given",
    )
    add_json(command)


def run(options: argparse.Namespace) -> None:
    """Report whether the agent could start, without starting anything."""
    from edge_agent.cli.as_service import as_service, is_for_service, not_given, see_as_service

    if not is_for_service(options):
        _check(options, load_running(options))
        return
    with as_service(options.config) as unit:
        config = load_running(options)
        see_as_service(options.config, config, unit)
        whom = f"; looked as {unit.name} would{'' if unit.is_known else ' (not installed)'}"
        _check(options, config, as_whom=whom, also=not_given(unit) if unit.is_known else [])


def _check(options: argparse.Namespace, config: Config, *, as_whom: str = "", also: Sequence[str] = ()) -> None:
    from edge_agent.agent.outlets import make_metrics
    from edge_agent.agent.state_dir import check_state_dir
    from edge_agent.cli.check_data import check_data, place_of
    from edge_agent.config.trust import trusted_keys
    from edge_agent.engine.runtime import runtime_problem

    if options.payload is not None:
        from edge_agent.cli.check_payload import check_payload

        check_payload(options.payload, options.topic, config, open_bundles(config), as_json=options.json)
        return
    asked = None if options.data is None else place_of(config, options.stream)
    problem = runtime_problem(thorough=True)
    if problem is not None:
        raise ProviderError(problem)
    check_state_dir(Path(config.agent.state_dir), allow_unsafe=config.agent.allow_unsafe_state_dir)
    check_connections(options.config, config)
    make_metrics(config)
    beside = config.outputs_in_words()
    bundles = open_bundles(config)
    contradictions = misfits(config, bundles)
    if contradictions:
        raise ConfigError(*(f"{options.config}: {each}" for each in contradictions))
    report: list[dict[str, Any]] = []
    fits: dict[str, DataFit] = {}
    for place, (section, bundle) in enumerate(zip(config.streams, bundles, strict=True)):
        engine, facts = _try_stream(section, bundle, config)
        if place == asked:
            fits[section.name] = check_data(options.data, section, bundle, engine, agent=config.agent.id)
            facts["data"] = fits[section.name].describe()
        report.append(facts)
    found = [*remarks(config, bundles), *by_stream(config, bundles, _remark_on_runtimes), *also]
    keys = trusted_keys(config.trust)
    ids = () if keys is None else keys.ids
    if not options.json:
        _show(report, fits, found, beside)
        for key in ids:
            say(f"trusted key: {key}")
    for fit in fits.values():
        fit.refuse()
    if options.json:
        told = {"ok": True, "config": str(options.config), "streams": report, "beside_alerts": beside}
        say(json_text({**told, "trusted_keys": [*ids], "remarks": found}))
        return
    count = f"{len(report)} stream{'s' if len(report) > 1 else ''}"
    say(f"{options.config}: good, {count}; neither the broker nor writing to the state folder was tried{as_whom}")


def _try_stream(section: StreamSection, bundle: Bundle, config: Config) -> tuple[Engine, dict[str, Any]]:
    """Open all that a stream needs; gives its engine, and its part of the report."""
    from edge_agent.config.decoders import make_decoder
    from edge_agent.config.inputs import open_input
    from edge_agent.engine.choice.choose import choose_provider
    from edge_agent.engine.fallback import FallbackEngine

    choice = choose_provider(bundle, config.engine_of(section), state_dir=None)
    engine = FallbackEngine(bundle, choice)
    make_decoder(section, bundle.manifest)
    if section.input is not None:
        open_input(section, bundle.manifest).close()
    zeros = np.zeros((1, bundle.manifest.window, len(bundle.manifest.channels)), dtype=np.float32)
    return engine, {
        "stream": section.name,
        "bundle": section.bundle,
        "model": f"{bundle.manifest.name} {bundle.manifest.version}",
        "signed_by": bundle.signed_by or None,
        "provider": choice.provider,
        "provider_reason": choice.reason,
        "score_of_zeros": float(engine.score(zeros).score[0]),
        "threshold": bundle.manifest.threshold.alarm,
    }


def _show(
    report: list[dict[str, Any]], fits: Mapping[str, DataFit], found: Sequence[str], beside: Sequence[str]
) -> None:
    for stream in report:
        signed = f", signed by {stream['signed_by']}" if stream["signed_by"] else ""
        say(f"{stream['stream']}: {stream['model']}{signed} on {stream['provider']} ({stream['provider_reason']})")
        say(f"  a window of zeros scores {stream['score_of_zeros']:.4g}; alerts start at {stream['threshold']:.4g}")
        if stream["stream"] in fits:
            fits[stream["stream"]].show()
    for each in beside:
        say(f"published beside alerts: {each}")
    for remark in found:
        say(f"remark: {remark}")


def _remark_on_runtimes(_settings: StreamSettings, manifest: Manifest) -> str | None:
    """That the bundle will not run on devices that have another runtime than this one; None if it will."""
    from edge_agent.engine.releases import OLDEST, in_words, runtimes_from

    runtimes = manifest.model.runtimes
    if not runtimes or runtimes == runtimes_from(min(OLDEST.values())):
        return None
    name, only = f"{manifest.name} {manifest.version}", in_words(runtimes)
    return f"{name} runs with {only} only; a device with another runtime ends with exit code 69"
