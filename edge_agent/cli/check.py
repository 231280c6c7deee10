"""`edge-agent check`: would the agent start?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.bundle import Manifest
from edge_agent.cli.options import add_config, add_json, by_stream, load, open_bundles, remarks
from edge_agent.errors import ConfigError, ProviderError
from edge_agent.stream.settings import StreamSettings
from edge_agent.terminal import json_text, say

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    add_config(command)
    add_json(command)


def run(options: argparse.Namespace) -> None:
    """Report whether the agent could start, without starting anything."""
    from edge_agent.agent.state_dir import check_state_dir
    from edge_agent.engine.choice.choose import choose_provider
    from edge_agent.engine.fallback import FallbackEngine
    from edge_agent.engine.runtime import runtime_problem
    from edge_agent.sources.decode import Decoder
    from edge_agent.sources.text_input import TextInput

    config = load(options)
    problem = runtime_problem(thorough=True)
    if problem is not None:
        raise ProviderError(problem)
    check_state_dir(Path(config.agent.state_dir), allow_unsafe=config.agent.allow_unsafe_state_dir)
    report: list[dict[str, Any]] = []
    bundles = open_bundles(config)
    misfits = by_stream(config, bundles, StreamSettings.problem_with)
    if misfits:
        raise ConfigError(*(f"{options.config}: {misfit}" for misfit in misfits))
    for settings, bundle in zip(config.streams, bundles, strict=True):
        choice = choose_provider(bundle, config.engine, state_dir=None)
        engine = FallbackEngine(bundle, choice)
        Decoder([channel.name for channel in bundle.manifest.channels], payload_format=settings.format)
        if settings.input is not None:
            TextInput(settings.name, settings.input).close()
        zeros = np.zeros((1, bundle.manifest.window, len(bundle.manifest.channels)), dtype=np.float32)
        report.append(
            {
                "stream": settings.name,
                "bundle": settings.bundle,
                "model": f"{bundle.manifest.name} {bundle.manifest.version}",
                "provider": choice.provider,
                "provider_reason": choice.reason,
                "score_of_zeros": float(engine.score(zeros).score[0]),
                "threshold": bundle.manifest.threshold.alarm,
            }
        )
    found = [*remarks(config, bundles), *by_stream(config, bundles, _remark_on_runtimes)]
    if options.json:
        say(json_text({"ok": True, "config": str(options.config), "streams": report, "remarks": found}))
        return
    for stream in report:
        say(f"{stream['stream']}: {stream['model']} on {stream['provider']} ({stream['provider_reason']})")
        say(f"  a window of zeros scores {stream['score_of_zeros']:.4g}; alerts start at {stream['threshold']:.4g}")
    for remark in found:
        say(f"remark: {remark}")
    count = f"{len(report)} stream{'s' if len(report) > 1 else ''}"
    say(f"{options.config}: good, {count}; neither the broker nor writing to the state folder was tried")


def _remark_on_runtimes(_settings: StreamSettings, manifest: Manifest) -> str | None:
    """That the bundle will not run on devices that have another runtime than this one; None if it will."""
    from edge_agent.engine.releases import OLDEST, in_words, runtimes_from

    runtimes = manifest.model.runtimes
    if not runtimes or runtimes == runtimes_from(min(OLDEST.values())):
        return None
    name, only = f"{manifest.name} {manifest.version}", in_words(runtimes)
    return f"{name} runs with {only} only; a device with another runtime ends with exit code 69"
