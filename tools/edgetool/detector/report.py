"""What `edgetool pack` made, and what a user has to know of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.bundle import Manifest
from edge_agent.engine.releases import OLDEST, in_words, runtimes_from
from edge_agent.files.shared_library import this_architecture
from edgetool.detector.calibration import rate_doubt, tie_doubt
from edgetool.detector.direction import Sign, SignFrom
from edgetool.detector.expected import Agreement
from edgetool.detector.labelled import LabelledQuality
from edgetool.detector.outliers import SignEvidence, SignVerdict
from edgetool.detector.trial import Trial
from edgetool.detector.warm_up import WarmUp

__all__ = ["PackReport"]


@dataclass(frozen=True, slots=True)
class PackReport:
    """What `pack` made."""

    bundle: Path
    manifest: Manifest
    size_bytes: int
    score_from: str
    """How the score is made, in words."""
    sign_evidence: SignEvidence | None
    """How outliers score beside normal rows; None for the error of a reconstruction, which can only point up."""
    sign: Sign
    """Which way the model's own score points, and how that was found."""
    rows_used: int
    still_channels: tuple[str, ...]
    """Channels that never moved in the normal rows, so that nobody knows what a movement of theirs means."""
    coarse_channels: tuple[str, ...]
    """Channels whose movements are lost in float32, because their values are so much larger."""
    looks_scaled: bool
    """True if every channel has a mean of 0 and a spread of 1, as readings have that were scaled for the training."""
    raw_readings: str
    """That a network takes large readings as they are, in words; empty where it does not, or the score is an error."""
    rows_labelled: int
    """Rows left out because the data call them anomalies."""
    time_doubts: str
    """What is odd about the times of the rows, in words; empty where nothing is."""
    rows_with_missing: int
    """Normal rows in which some values are missing."""
    missing: str | None
    """What is done about these, as `--missing` says; None holds the last values."""
    blind_channels: tuple[str, ...]
    """Channels without which a model that takes missing values scores all windows the same."""
    verdicts_changed: int | None
    """Calibration windows that reach the alarm limit with the packed model and not with its reference, or reversed;
    None without a reference."""
    deviation: float | None
    """Of the packed model from its float32 reference on the golden vectors (`golden_deviation`); None without one."""
    repairs: list[str]
    """What was put right in the model, in words."""
    replaced: bool
    """True if the bundle took the place of a file of the same name."""
    signed_by: str
    """Id of the key that has signed it; empty if none has."""
    trial: Trial
    """How made-up faults score."""
    expected: Agreement | None
    """How the scores agree with those that the author's own code gave; None where none were given."""
    formula: str
    """The score of one moment as a line of numpy; docs/scores.md names what stands in it."""
    poor_channels: tuple[str, ...]
    """Channels whose mean would be as good an answer as their reconstruction."""
    slow: tuple[str, ...]
    """What makes the graph needlessly slow, each with the remedy."""
    limit_is_given: bool
    """The alarm limit is the author's, not one from the data."""
    labelled: LabelledQuality | None
    """What is found of the rows that the data call anomalies; None without any."""
    warm_up: WarmUp | None
    """How many windows of an asset only fill the state of the model; None of a model without."""
    feeds_each_row: int
    """How often each reading goes into that state; 0 of a model without."""
    exporter_notes: tuple[str, ...]
    """What the exporter has to say of a model that was made by the way."""
    seconds: float

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "bundle": str(self.bundle),
            "size_bytes": self.size_bytes,
            "score_from": self.score_from,
            "sign_evidence": None if self.sign_evidence is None else self.sign_evidence.describe(),
            "sign_from": self.sign.found.value,
            "rows_used": self.rows_used,
            "still_channels": list(self.still_channels),
            "coarse_channels": list(self.coarse_channels),
            "looks_scaled": self.looks_scaled,
            "rows_labelled": self.rows_labelled,
            "rows_with_missing": self.rows_with_missing,
            "missing": self.missing,
            "blind_channels": list(self.blind_channels),
            "verdicts_changed": self.verdicts_changed,
            "deviation": self.deviation,
            "repairs": self.repairs,
            "replaced": self.replaced,
            "signed_by": self.signed_by or None,
            "trial": self.trial.describe(),
            "expected": None if self.expected is None else self.expected.describe(),
            "formula": self.formula,
            "warm_up": None if self.warm_up is None else self.warm_up.describe(),
            "poor_channels": list(self.poor_channels),
            "labelled": None if self.labelled is None else self.labelled.describe(),
            "warnings": self.warnings(),
            "seconds": round(self.seconds, 3),
            "manifest": msgspec.to_builtins(self.manifest),
        }

    def warnings(self) -> list[str]:
        """What a user has to know before they trust the bundle, each with a next step."""
        return [
            *self._of_sign(),
            *self._of_labels(),
            *self._of_channels(),
            *self._of_limit(),
            *self._of_precision(),
            *self._of_state(),
            *self.slow,
            *self.exporter_notes,
            *self._of_runtimes(),
            *self._of_libraries(),
        ]

    def _of_libraries(self) -> Iterator[str]:
        """That the bundle brings no library, and which of them nobody has tried."""
        libraries = self.manifest.custom_ops
        if libraries:
            yield (
                "the libraries are not in the bundle: a device needs the file, and its hash in agent.toml under "
                "[[engine.custom_ops]]"
            )
        for part in libraries:
            if part.architecture != this_architecture():
                yield f"{part.file} is for {part.architecture} and was not tried here; run edge-agent check on a device"

    def _of_labels(self) -> Iterator[str]:
        """That anomalies may have been taken for the normal rows."""
        if self.rows_labelled > self.rows_used:
            yield (
                f"{self.rows_labelled} rows are labelled as anomalies and left out, and the limit is that of the other "
                f"{self.rows_used}: 1 is an anomaly and 0 is normal; are the labels turned round?"
            )

    def _of_sign(self) -> Iterator[str]:
        evidence = self.sign_evidence
        if evidence is None or evidence.verdict is SignVerdict.CONFIRMED:
            return
        found = evidence.in_words(self.sign)
        if evidence.verdict is SignVerdict.CONTRADICTED:
            yield f"{found}; --higher-is says otherwise, so such readings raise no alarm"
        elif self.sign.found not in (SignFrom.GIVEN, SignFrom.EXPORTER):
            is_named = self.sign.found is SignFrom.NAMES
            grounds = "that high is normal, only its name says" if is_named else "that high is anomalous, is assumed"
            yield (
                f"{found}; {grounds}. Say what a high value of the model's own output means, --higher-is anomalous or "
                "--higher-is normal, or label five anomalies in the data"
            )

    def _of_channels(self) -> Iterator[str]:
        if self.looks_scaled:
            yield (
                "every channel of the data has a mean of about 0 and a spread of about 1, as scaled readings have; the "
                "device must get them scaled, too. Else pack with raw readings, and put the scaling into the model: "
                "--scale FILE"
            )
        if self.raw_readings:
            yield self.raw_readings
        if self.time_doubts:
            yield self.time_doubts
        for name in self.coarse_channels:
            yield (
                f"channel {name} has values so much larger than its movements that float32, in which device and model "
                "have readings, loses more than a hundredth of these; let the sender take an offset off, or send what "
                "it grows by"
            )
        for name in (name for name in self.still_channels if name not in self.coarse_channels):
            if self.sign.found is SignFrom.ERROR:
                means = (
                    "its error counts in hundredths of its value, so a small movement is no alarm and a large one is"
                )
            else:
                means = "how the model scores a movement of it, nobody has seen, and the smallest may raise an alarm"
            step = "Give data in which it moves, or leave it out of the model"
            yield f"channel {name} never moved in the data: {means}. {step}"
        if self.poor_channels:
            names = ", ".join(self.poor_channels[:10]) + (", …" if len(self.poor_channels) > 10 else "")
            yield (
                f"of {len(self.poor_channels)} channels the mean would be as good an answer as the model's ({names}), "
                "so "
                "only a movement far out of their range shows; train it longer, or leave them out"
            )
        if self.blind_channels:
            names = ", ".join(self.blind_channels[:10]) + (", …" if len(self.blind_channels) > 10 else "")
            yield (
                f"where one of {names} is missing, the model scores all windows the same, so no fault of another "
                "channel shows then; train it with such rows, unless what is missing is what it predicts: then nothing "
                "can be compared, and that is right"
            )
        if self.trial.warning:
            yield self.trial.warning

    def _of_limit(self) -> Iterator[str]:
        calibration = self.manifest.calibration
        if calibration is None or self.limit_is_given:
            return
        yield from filter(None, (tie_doubt(calibration), rate_doubt(calibration)))

    def _of_state(self) -> Iterator[str]:
        found = self.warm_up
        if found is None:
            return
        if self.feeds_each_row > 1:
            yield (
                f"each reading goes into the state {self.feeds_each_row} times, with each window that it is in; if it "
                f"is to go in once, give --stride {self.feeds_each_row * self.manifest.stride}"
            )
        if not found.starts:
            yield (
                "no asset has rows enough to see how long its state takes to fill: its first scores may be false "
                "alarms. Give data of one asset over a longer time"
            )
        elif not found.is_settled:
            yield (
                f"after {found.windows} windows from zeros on the scores still differ from those of an unbroken run: "
                "each new asset, gap and new version may raise false alarms for longer"
            )

    def _of_runtimes(self) -> Iterator[str]:
        runtimes = self.manifest.model.runtimes
        # What every runtime runs needs no word.
        if runtimes != runtimes_from(min(OLDEST.values())):
            yield f"it runs with {in_words(runtimes)} only; other devices end with exit code 69"

    def _of_precision(self) -> Iterator[str]:
        if self.deviation is None and self.manifest.model.precision != "float32":
            yield (
                "its weights are float16 or int8, and nobody has compared its scores with those of the model that it "
                "was "
                "made from; give that one with --reference"
            )
