"""The ladder: forms of a model in order of what they gain, of which the first that is right and not slower is taken."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_agent.engine.providers import available_providers
from edge_agent.errors import ConversionError
from edgetool.choices import Precision, Target
from edgetool.graph.weights import size_of
from edgetool.precision.context import Candidate, Context, Rung
from edgetool.precision.float16.ranges import RangeProblem
from edgetool.precision.float16.search import search_half
from edgetool.precision.int8.candidates import int8_candidates
from edgetool.precision.stored import stored_candidate

__all__ = ["MAX_SLOWDOWN", "Climb", "climb", "measure", "speed_provider"]

MAX_SLOWDOWN = 1.1
"""Latency of a result, as a multiple of the original's, above which a rung is not taken on a CPU target."""
MIN_INT8_GAIN = 1.3
"""How much faster int8 arithmetic has to be; below that, storing is as small and has less drift."""
_CLEARLY_FASTER = 0.8
_WORTH_STORING = 0.98
"""Share of the original's size above which a model is kept as it is."""
_BUDGET_S = 0.15
_MEASUREMENTS = 3
"""A machine with other work on it makes any form look slow once, and the same arithmetic hardly three times."""


@dataclass(slots=True)
class Climb:
    """What came of one precision."""

    candidate: Candidate | None
    reason: str
    """Why there is no candidate."""
    rungs: list[Rung] = field(default_factory=list)
    """Steps that were not taken."""
    problems: list[RangeProblem] = field(default_factory=list)


def climb(context: Context, precision: Precision) -> Climb:
    """The best form of a model for a target in one precision.

    Args:
        context: the model and the means to try it.
        precision: float16 or int8.
    """
    result = Climb(None, "")
    if precision is Precision.INT8:
        result.candidate = _computed_int8(context, result)
    elif context.target.computes_in_float16:
        result.candidate = _computed_float16(context, result)
    if result.candidate is None:
        result.candidate = _stored(context, result, int8=precision is Precision.INT8)
    return result


def measure(context: Context, candidates: list[Candidate]) -> float | None:
    """Time candidates beside the original, in turns, and note each one's latency.

    Args:
        context: has the original's file and the target.
        candidates: to time.

    Returns:
        The original's latency in seconds; None where the target's provider is not on this machine.
    """
    provider = speed_provider(context.target)
    if provider is None or not candidates:
        return None
    paths = [context.path, *(candidate.path for candidate in candidates)]
    try:
        timing = context.bench.time(paths, provider, budget_s=_BUDGET_S * len(paths))
    except ConversionError:
        return None
    latency_s = timing.seconds(0)
    for number, candidate in enumerate(candidates, start=1):
        candidate.latency_ratio, candidate.latency_s = timing.ratio(number), timing.seconds(number)
    return latency_s


def speed_provider(target: Target) -> str | None:
    """The provider of this machine that a target's speed can be measured on; None when there is none."""
    if target is Target.CPU:
        return "cpu"
    if target is Target.OPENVINO and "openvino" in {provider.name for provider in available_providers()}:
        return "openvino"
    return None


def _computed_float16(context: Context, result: Climb) -> Candidate | None:
    found = search_half(context)
    result.problems = found.problems
    result.rungs += found.rungs
    if found.candidate is None:
        result.rungs.append(Rung("converted", found.reason))
    return found.candidate


def _computed_int8(context: Context, result: Climb) -> Candidate | None:
    candidates, reasons = int8_candidates(context)
    result.rungs += [Rung("converted", reason) for reason in reasons]
    if not candidates:
        return None
    if not measures_speed(context.target):
        return candidates[-1]
    if measure(context, candidates) is None:
        result.rungs.append(Rung("converted", f"cannot be timed: provider {context.target.value} is not here"))
        return None
    best = _fastest(candidates)
    gain = 1 / (best.latency_ratio or 1.0)
    if gain >= MIN_INT8_GAIN:
        return best
    text = f"computing in int8 ({best.reason}) is {gain:.2f} times as fast, {MIN_INT8_GAIN} is worth it"
    result.rungs.append(Rung("converted", text))
    return None


def _fastest(candidates: list[Candidate]) -> Candidate:
    """The last candidate, unless another is clearly faster: a small difference would be another one on another day."""
    best = candidates[-1]
    for other in candidates[:-1]:
        if (other.latency_ratio or 1.0) < _CLEARLY_FASTER * (best.latency_ratio or 1.0):
            best = other
    return best


def _stored(context: Context, result: Climb, *, int8: bool) -> Candidate | None:
    candidate, problem = stored_candidate(context, int8=int8)
    if candidate is None and int8:
        result.rungs.append(Rung("stored", f"int8: {problem}"))
        candidate, problem = stored_candidate(context, int8=False)
    if candidate is None:
        result.reason = problem
        return None
    share = size_of(candidate.model, context.store) / context.size_bytes
    if share > _WORTH_STORING:
        if context.widened and candidate.precision == "float16":
            result.reason = "the weights are float16 already"
            return None
        saved = f"only {1 - share:.1%} smaller" if share < 1 else "no smaller"
        result.reason = f"fewer bits for the weights would make the file {saved}"
        return None
    slow = _why_slow(context, candidate)
    if slow:
        result.rungs.append(Rung("stored", slow))
        result.reason = slow
        return None
    return candidate


def _why_slow(context: Context, candidate: Candidate) -> str:
    """Empty unless a candidate is slower than the original, three times in a row."""
    for _ in range(_MEASUREMENTS):
        measure(context, [candidate])
        if candidate.latency_ratio is None or candidate.latency_ratio <= MAX_SLOWDOWN:
            return ""
    return f"takes {candidate.latency_ratio:.2f} times as long as the original, at most {MAX_SLOWDOWN} is allowed"


def measures_speed(target: Target) -> bool:
    """True if the target is a CPU. The speed of a GPU or NPU cannot be measured on a host that has none."""
    return target in (Target.CPU, Target.OPENVINO)
