"""Holds a converted model against its original: every output, on every provider of this machine, in a child process."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from edge_agent.engine.providers import available_providers
from edge_agent.errors import ConversionError
from edgetool.graph.pieces import cut
from edgetool.graph.weights import WeightStore
from edgetool.verify.arrays import Sample
from edgetool.verify.drift import OutputDrift, compare_answers
from edgetool.verify.finite import unanswered
from edgetool.verify.layout import Layout
from edgetool.verify.probes import Probes, Ventured, ventured_problem, ventured_share
from edgetool.verify.samples import model_inputs
from edgetool.verify.saturated import saturated
from edgetool.verify.scores import Judged, ScoreAgreement, agree, find_judged
from edgetool.verify.spoken import SpokenScores
from edgetool.verify.workbench import Workbench

__all__ = ["DRIFTS", "Limits", "ProviderCheck", "Verification", "Verifier", "state_pairs"]

_SEQUENCE_STEPS = 24
_ROLE = re.compile(r"(?:^|[_.])(?:in|out|input|output|prev|previous|next|new|old|cur|current|n|0|1|t)(?=$|[_.])")


DRIFTS = "drifts by"
"""Words by which the text about an output beyond its limit is recognised."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far an output may move."""

    drift: float
    """Largest drift of a float output, as a share of its peak."""
    changed: float
    """Largest share of the values of any other output that may change."""
    score: float = math.inf
    """How far what a detector scores may move, as a share (`golden_deviation`)."""
    demanded: bool = False
    """The user asked for less drift than usual: a model that cannot keep to it is refused, and not kept as it is."""

    def problem(self, drifts: Sequence[OutputDrift], scores: Sequence[ScoreAgreement] = ()) -> str:
        """What is beyond the limits; empty when nothing is."""
        for found in drifts:
            limit = self._limit_of(found)
            if not found.drift <= limit:
                detail = f" ({found.note})" if found.note else ""
                return (
                    f"output {found.output!r} {DRIFTS} {found.drift:.3g} at sample {found.worst_sample}{detail}, "
                    f"at most {limit:g} is allowed"
                )
        for score in scores:
            if not score.deviation <= self.score:
                return (
                    f"as the score of a detector, {score.output} {DRIFTS} {score.deviation:.3g}, "
                    f"at most {self.score:g} is allowed"
                )
        return ""

    def used(self, drifts: Sequence[OutputDrift], scores: Sequence[ScoreAgreement]) -> float:
        """The largest share of its limit that anything moved by; above 1 where there is a problem."""
        moved = [(found.drift, self._limit_of(found)) for found in drifts]
        moved += [(score.deviation, self.score) for score in scores]
        return max((found / limit if limit else math.inf for found, limit in moved if found), default=0.0)

    def _limit_of(self, found: OutputDrift) -> float:
        return self.drift if found.is_float else self.changed


@dataclass(frozen=True, slots=True)
class ProviderCheck:
    """What one provider made of the result."""

    provider: str
    checked: bool
    """False where the original does not run rightly either."""
    drift: float | None
    note: str
    pieces: int = 1
    """A large model ran in so many pieces, one after the other."""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {
            "provider": self.provider,
            "checked": self.checked,
            "drift": self.drift,
            "note": self.note,
            "pieces": self.pieces,
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of comparing one candidate."""

    problem: str
    """Empty when it is right."""
    drifts: list[OutputDrift] = field(default_factory=list)
    providers: list[ProviderCheck] = field(default_factory=list)
    scores: list[ScoreAgreement] = field(default_factory=list)
    ventured: list[Ventured] = field(default_factory=list)
    """Of a detector: far from normal, and alone beside in a batch."""
    refused: dict[str, float] = field(default_factory=dict)
    """See `SpokenScores.refused`; empty where no other provider was asked."""
    used: float = math.inf
    """See `Limits.used`; infinite where nothing was compared."""
    crashed: bool = False

    @property
    def is_right(self) -> bool:
        """True if the candidate answers as the original does, on every provider that runs the original."""
        return not self.problem

    @property
    def worst(self) -> float:
        """The largest drift of any output."""
        return max((drift.drift for drift in self.drifts), default=0.0)


class Verifier:
    """Knows what the original answers, and compares candidates with it.

    Args:
        bench: has the samples.
        original: the model's file.
        limits: how far outputs may move.
        threshold: of the model's score, for counting verdicts; None when there is none.
        states: state inputs and the outputs that belong to them; such a model runs as a sequence too.
        cut_in: of a large model, has its weights: providers other than the CPU's get it in pieces, for the memory.
        layout: of the samples; with it, what can be a detector's score is compared far from normal and alone, too.
        measured: the samples are real readings.

    Raises:
        ConversionError: the original does not run on the CPU provider.
    """

    def __init__(
        self,
        bench: Workbench,
        original: Path,
        limits: Limits,
        *,
        threshold: float | None = None,
        states: Sequence[tuple[str, str]] = (),
        cut_in: WeightStore | None = None,
        layout: Layout | None = None,
        measured: bool = False,
    ) -> None:
        self._bench, self._original, self.limits = bench, original, limits
        self._threshold, self._states, self._cut_in = threshold, list(states), cut_in
        self.expected: list[Sample] = bench.run(original)
        # A state that comes back has the shape of one that was given, and reconstructs nothing.
        given = {name for name, _ in states}
        self._inputs = [{name: x for name, x in sample.items() if name not in given} for sample in bench.samples]
        self.unanswered = unanswered(self.expected, bench.samples)
        """Outputs of the original that are not finite for some rows."""
        self.saturated = saturated(self.expected, bench.samples) if measured else []
        """Outputs of the original that are the same for all rows; none are looked for on made-up inputs."""
        self.judged: list[Judged] = find_judged(
            self.expected,
            self._inputs,
            measured=measured,
            channels_first=layout is not None and layout.channels_first,
        )
        """Outputs that can be a detector's score."""
        self.spoken = (
            SpokenScores(bench, original, self.expected, layout=layout, judged=self.judged)
            if measured and layout is not None and not states
            else None
        )
        """Scores that are made of the outputs if somebody says so."""
        self.probes = self._make_probes(layout)
        self._sequence = self._run_sequence(original, "cpu") if states else []
        self._others = [provider.name for provider in available_providers() if provider.name != "cpu"]
        self._usable: dict[str, str] = {}
        """Provider: why the original cannot be compared there; empty when it can."""

    @property
    def states(self) -> list[tuple[str, str]]:
        """State inputs and outputs."""
        return self._states

    def _make_probes(self, layout: Layout | None) -> Probes | None:
        scores = self.judged[0].scores(self.expected, self._inputs) if self.judged else None
        if layout is None or scores is None:
            return None
        try:
            return Probes(self._bench, self._original, layout=layout, judged=self.judged, scores=scores)
        # Windows that are cut and put together otherwise are not what this model takes.
        except ConversionError:
            return None

    def check(self, candidate: Path, *, everywhere: bool = True) -> Verification:
        """Compare a candidate with the original.

        Args:
            candidate: its file.
            everywhere: on every installed provider, not only on the CPU's.
        """
        try:
            found = self._bench.run(candidate)
            drifts, scores = self._compare(found)
            ventured = self.probes.check(candidate) if self.probes is not None else []
            problem = self.limits.problem(drifts, scores) or ventured_problem(ventured)
            problem = problem or self._sequence_problem(candidate, "cpu")
            refused = self.spoken.refused(candidate, found) if self.spoken is not None and everywhere else {}
        except ConversionError as exc:
            return Verification(f"provider cpu: {exc}", crashed="crashed" in str(exc))
        cpu = ProviderCheck("cpu", checked=True, drift=max((d.drift for d in drifts), default=0.0), note=problem)
        providers = [cpu]
        if not problem and everywhere:
            providers += [self._check_on(provider, candidate) for provider in self._others]
            problem = next((f"provider {p.provider}: {p.note}" for p in providers if p.checked and p.note), "")
        used = max(self.limits.used(drifts, scores), ventured_share(ventured))
        return Verification(problem, drifts, providers, scores, ventured, refused, used=used)

    def problem_of(self, answers: Sequence[Sample]) -> str:
        """What is beyond the limits in answers to the first samples; empty when nothing is."""
        return self.limits.problem(*self._compare(answers))

    def _compare(self, answers: Sequence[Sample]) -> tuple[list[OutputDrift], list[ScoreAgreement]]:
        expected, inputs = self.expected[: len(answers)], self._inputs[: len(answers)]
        return compare_answers(expected, answers), agree(
            self.judged, expected, answers, threshold=self._threshold, inputs=inputs
        )

    def _check_on(self, provider: str, candidate: Path) -> ProviderCheck:
        if provider not in self._usable:
            self._usable[provider] = self._why_unusable(provider)
        if self._usable[provider]:
            return ProviderCheck(provider, checked=False, drift=None, note=self._usable[provider])
        try:
            answers, pieces = self._run_on(provider, candidate)
            drifts, scores = self._compare(answers)
            problem = self.limits.problem(drifts, scores) or self._sequence_problem(candidate, provider)
        except ConversionError as exc:
            return ProviderCheck(provider, checked=True, drift=None, note=str(exc))
        drift = max((d.drift for d in drifts), default=0.0)
        return ProviderCheck(provider, checked=True, drift=drift, note=problem, pieces=pieces)

    def _run_on(self, provider: str, model: Path) -> tuple[list[Sample], int]:
        """The answers of another provider, and in how many pieces the model ran."""
        pieces = [model] if self._cut_in is None or self._states else cut(model, self._cut_in)
        if len(pieces) == 1:
            # Left to the provider, folding constants takes half the memory that the runtime needs for it.
            return self._bench.run(model, provider, optimized=self._cut_in is None), 1
        return self._bench.run_pieces(pieces, list(self.expected[0]), provider), len(pieces)

    def _why_unusable(self, provider: str) -> str:
        try:
            answers, _ = self._run_on(provider, self._original)
            problem = self.problem_of(answers)
        except ConversionError as exc:
            return f"does not run the original either, so it was not tried ({str(exc)[:160]})"
        return f"is wrong with the original already, so it was not tried ({problem})" if problem else ""

    def _run_sequence(self, model: Path, provider: str) -> list[Sample]:
        return self._bench.run_sequence(model, self._states, _SEQUENCE_STEPS, provider)

    def _sequence_problem(self, candidate: Path, provider: str) -> str:
        if not self._states:
            return ""
        problem = self.limits.problem(compare_answers(self._sequence, self._run_sequence(candidate, provider)))
        return f"as a sequence of {_SEQUENCE_STEPS} steps: {problem}" if problem else ""


def state_pairs(model: onnx.ModelProto) -> list[tuple[str, str]]:
    """State inputs with the outputs that become them: of one type and shape, and of one name but for its role.

    `h_in` and `h_out`, `state` and `new_state`, `h0` and `hn` are pairs; a model has states when it has one and another
    input beside them.
    """
    inputs = {item.name for item in model_inputs(model)}
    alike: defaultdict[tuple[str, bytes], list[str]] = defaultdict(list)
    for value in model.graph.input:
        if value.name in inputs and _stem(value.name):
            alike[_stem(value.name), value.type.SerializeToString()].append(value.name)
    pairs: list[tuple[str, str]] = []
    for value in model.graph.output:
        found = alike.get((_stem(value.name), value.type.SerializeToString()), [])
        pairs += [(name, value.name) for name in found if name != value.name]
        # Each input and each output may be in one pair only, so this many are too many.
        if len(pairs) > len(inputs):
            return []
    given, made = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    unique = len(set(given)) == len(given) and len(set(made)) == len(made)
    return pairs if unique and len(inputs) > len(pairs) else []


def _stem(name: str) -> str:
    separated = re.sub(r"(?<=[A-Za-z])(?=[0-9])|(?<=^[hc])(?=n$)", "_", name.lower())
    return _ROLE.sub("", separated).strip("_.")
