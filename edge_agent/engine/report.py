"""What is known about the providers of this device, as text for a person."""

from __future__ import annotations

from edge_agent.engine.discovery import Discovery
from edge_agent.engine.evidence import Candidate
from edge_agent.engine.mix import BATCH_SIZES
from edge_agent.engine.selection import Choice

__all__ = ["choice_lines", "discovery_lines"]

_NAME = 18


def choice_lines(choice: Choice) -> list[str]:
    """A table of the candidates with their verdicts, then those that are not here, then the choice."""
    sizes = "".join(f"{f'{size} us':>10}" for size in BATCH_SIZES)
    lines = [f"  {'provider':<{_NAME}}{'verdict':<18}{sizes}{'change us':>11}{'memory':>10}  reason"]
    lines.extend(_candidate_line(candidate, chosen=candidate is choice.ranking[0]) for candidate in choice.candidates)
    lines.extend(f"  {absent.provider:<{_NAME}}{'not here':<18}{absent.reason}" for absent in choice.absent)
    source = "default, none met yet" if choice.mix_is_default else "as met by this stream"
    lines.append(f"  batch sizes: {choice.mix.in_words()} ({source})")
    measured = "remembered" if choice.remembered else "measured now"
    lines.append(f"  chosen: {choice.ranking[0].name} ({measured}): {choice.reason}")
    return lines


def discovery_lines(found: Discovery) -> list[str]:
    """What is here and what is not, without a model to try it on."""
    here = [f"  {provider.name:<{_NAME}}here, to be proven on a bundle" for provider in found.providers]
    return [*here, *(f"  {absent.provider:<{_NAME}}not here: {absent.reason}" for absent in found.absent)]


def _candidate_line(candidate: Candidate, *, chosen: bool) -> str:
    times = candidate.batch_us()
    cells = "".join(f"{times[size]:>10.1f}" if times else f"{'-':>10}" for size in BATCH_SIZES)
    change = f"{candidate.change_us():>11.1f}" if times else f"{'-':>11}"
    memory = f"{candidate.memory_bytes >> 20:>6} MiB" if candidate.memory_bytes else f"{'-':>10}"
    mark = "*" if chosen else " "
    return f"{mark} {candidate.name:<{_NAME}}{candidate.verdict.value:<18}{cells}{change}{memory}  {candidate.reason}"
