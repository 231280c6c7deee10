"""Reports on the providers of this device, as text for a person."""

from __future__ import annotations

from edge_agent.engine.choice.batch_mix import BATCH_SIZES
from edge_agent.engine.choice.choose import Choice
from edge_agent.engine.choice.discovery import Discovery
from edge_agent.engine.choice.evidence import Candidate

__all__ = ["choice_lines", "discovery_lines"]

_GAP = 2
_NO_DIGITS_US = 1e5


def choice_lines(choice: Choice) -> list[str]:
    """Describe a choice: a table of the candidates with their verdicts, the absent providers, and the choice."""
    width = _width([*(c.name for c in choice.candidates), *(a.provider for a in choice.absent)])
    sizes = "".join(f"{f'{size} us':>10}" for size in BATCH_SIZES)
    lines = [f"  {'provider':<{width}}{'verdict':<18}{sizes}{'change us':>11}{'memory':>10}  reason"]
    lines.extend(
        _candidate_line(candidate, width, chosen=candidate is choice.ranking[0]) for candidate in choice.candidates
    )
    lines.extend(f"  {absent.provider:<{width}}{'not here':<18}{absent.reason}" for absent in choice.absent)
    source = "default, none met yet" if choice.mix_is_default else "as met by this stream"
    lines.append(f"  batch sizes: {choice.mix.in_words()} ({source})")
    measured = "remembered" if choice.remembered else "measured now"
    lines.extend(
        f"  {name} {deed}: it comes behind the others, until `edge-agent providers --anew`"
        for name, deed in choice.blamed.items()
    )
    lines.append(f"  chosen: {choice.ranking[0].name} ({measured}): {choice.reason}")
    return lines


def discovery_lines(found: Discovery) -> list[str]:
    """Describe the providers that are here and those that are absent, when there is no model to try them on."""
    width = _width([*(p.name for p in found.providers), *(a.provider for a in found.absent)])
    here = [f"  {provider.name:<{width}}here, to be proven on a bundle" for provider in found.providers]
    return [*here, *(f"  {absent.provider:<{width}}not here: {absent.reason}" for absent in found.absent)]


def _width(names: list[str]) -> int:
    return _GAP + max(map(len, ("provider", *names)))


def _candidate_line(candidate: Candidate, width: int, *, chosen: bool) -> str:
    times = candidate.batch_us()
    shown = {
        size: f"{'~' if size in candidate.estimated else ''}{us:.{0 if us >= _NO_DIGITS_US else 1}f}"
        for size, us in times.items()
    }
    cells = "".join(f"{shown.get(size, '-'):>10}" for size in BATCH_SIZES)
    change = f"{candidate.change_us():>11.1f}" if times else f"{'-':>11}"
    memory = f"{candidate.memory_bytes >> 20:>6} MiB" if candidate.memory_bytes else f"{'-':>10}"
    mark = "*" if chosen else " "
    return f"{mark} {candidate.name:<{width}}{candidate.verdict.value:<18}{cells}{change}{memory}  {candidate.reason}"
