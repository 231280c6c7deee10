"""A model made canonical on normal readings: what `pack` scores with, and puts into the bundle."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import ConversionError, EdgeError, UsageError
from edge_agent.messages.reading import FloatArray
from edgetool.choices import ErrorIn, HeadKind
from edgetool.data import SensorData
from edgetool.detector.candidates import Asked, Candidate
from edgetool.detector.canonical import (
    canonical_frame,
    check_layout,
    feed_readings,
    frame_of,
    frame_of_features,
    is_canonical,
    lies_open,
    note_types,
)
from edgetool.detector.chain import Chain
from edgetool.detector.classes import class_of
from edgetool.detector.described import formula, in_words
from edgetool.detector.direction import sign_of_error, sign_of_score, sklearn_scores
from edgetool.detector.features import parse_features
from edgetool.detector.finish import finish
from edgetool.detector.frame import Frame
from edgetool.detector.head import PREFIX, Fitted, Head, check_digits, reconstruct, target_of
from edgetool.detector.meanings import choose, rows_ahead
from edgetool.detector.missing import missing_policy
from edgetool.detector.options import DetectorOptions
from edgetool.detector.own_scaling import check_not_twice, own_scaling
from edgetool.detector.raised import check_raised
from edgetool.detector.refusals import of_one_window
from edgetool.detector.runs import ModelRuns, are_equal
from edgetool.detector.scaling import Scaling, read_scaling, scaling_of
from edgetool.detector.scorer import Scorer
from edgetool.detector.state import links_of, state_size
from edgetool.detector.warm_up import WarmUp
from edgetool.detector.windows import NormalWindows, rows_ahead_of
from edgetool.graph.batch import free_batch
from edgetool.graph.edits import copy_of, with_all_outputs
from edgetool.graph.maps import class_labels, unzip_maps
from edgetool.graph.nan_tests import spell_out_nan_tests
from edgetool.graph.onnx_file import load_model
from edgetool.graph.randomness import draws_numbers
from edgetool.graph.shapes import settle_shapes
from edgetool.graph.versions import lower_versions
from edgetool.graph.weights import to_bytes
from edgetool.verify.arrays import Sample
from edgetool.verify.scores import poor_channels

__all__ = ["Detector"]

_FOLDS = 4


class Detector:
    """A model made canonical on normal readings, with the windows it was tried on.

    Args:
        path: the model.
        rows: the data, with the rows that are labelled.
        options: what the user says.
        runs: of the command.

    Raises:
        ConversionError: the model cannot be made canonical, or does not run.
        DataError: the data complete no window.
        UsageError: more than one reading of the model fits, or an option does not fit the model.
    """

    def __init__(self, path: Path, rows: SensorData, options: DetectorOptions, *, runs: ModelRuns) -> None:
        options.check()
        self._path = path
        self._options = options
        self.channels = rows.channels
        """Their names, in the model's order."""
        self._head: Head | None = None
        self._scaling: Scaling | None = None
        self._fitted: Fitted | None = None
        self._has_fixed_batch = False
        self._chain: Chain | None = None
        self.windows: FloatArray
        """Normal windows in which no value is missing: where some were, as the graph has them, or held."""
        self.repairs: list[str] = []
        """What was put right in the model that is packed, in words."""
        self.poor: tuple[str, ...] = ()
        """Channels whose mean would be as good an answer as the reconstruction."""
        self.missing = missing_policy(options.missing, rows if rows.labels is None else rows.where(rows.labels == 0))
        """What is done about missing values; None where the last ones are held."""
        model = self._load(path)
        self._labels = sklearn_scores(model)
        self._links = () if is_canonical(model) else links_of(model, options.state)
        size = state_size(model) if is_canonical(model) else sum(link.size for link in self._links)
        self._scorer = Scorer(path, runs, self._links, size, options.output)
        self.normal = NormalWindows(rows, options.stride, has_state=self._scorer.has_state, missing=self.missing)
        """The windows of the data."""
        if is_canonical(model):
            self.frame = canonical_frame(path, model, len(rows.channels), options)
            self.score_from = "the model is canonical already"
            self.sign = sign_of_score(np.empty(0), None, options.higher_is)
            self._take_windows()
        else:
            self._head = self._make_canonical(model)
            self.score_from = in_words(self._head, self.frame, options)
            self.sign = self._head.sign
        if self.missing is not None:
            self.score_from += f", {self.missing.in_words()}"
        self.given = self.normal.given(self.window) if self.normal.have_holes else self.windows
        """Normal windows as the device scores them: where values are missing, that is NaN if the model takes it."""
        self._note_types(model)
        self.model = to_bytes(model, path)
        if self._chain is not None:
            self._chain.warm(self.model)
            self.windows = self.given = self._chain.windows

    @property
    def window(self) -> int:
        """Rows in a window of the bundle."""
        return self.frame.window

    @property
    def stride(self) -> int:
        """Readings from one window to the next."""
        return self._options.stride

    @property
    def is_decision_function(self) -> bool:
        """True if the score is scikit-learn's decision function, as skl2onnx writes it beside the label."""
        return self._head is not None and self._head.name == "scores" and "scores" in self._labels

    @property
    def watched(self) -> int | None:
        """The only channel that the score is about; None if it is about all."""
        return None if self._head is None else self._head.channel

    @property
    def formula(self) -> str:
        """The score of one moment as a line of numpy."""
        known = "" if self.missing is None else self.missing.formula
        if self._head is None:
            return "y"
        masked = self.missing is not None and self.missing.fill is None
        return known + formula(self._head, replace(self.frame.inner, smoothed=1), masked=masked)

    @cached_property
    def states(self) -> FloatArray | None:
        """What the model is given back with each of the windows: shape (n, size); None of a model without state."""
        return None if self._chain is None else self._chain.states(self.model)

    @property
    def warm_up(self) -> WarmUp | None:
        """How many windows of an asset only fill the state; None of a model without."""
        return None if self._chain is None else self._chain.warm_up

    def that_count(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of values for all normal windows those of `given`."""
        return values if self._chain is None else values[self._chain.is_warm]

    def same_for(self, path: Path) -> bytes:
        """Another form of the same model made canonical in the same way."""
        return self._canonical(path, self._head)

    def scores_of_whole(self, model: bytes, scores: FloatArray) -> FloatArray:
        """The scores of `windows`, from those of `given` where these are the same for the graph."""
        is_other = self.normal.have_holes and self.missing is not None and self.missing.fill is None
        return self.scores(model, self.windows) if is_other else scores

    def unseen_scores(self, path: Path, scores: FloatArray) -> FloatArray:
        """The scores of normal windows by constants that were fitted on other windows, for the limits.

        A covariance or a linear map of many values fits the windows that it is from better than any to come: on 960
        rows of 52 channels, a limit from these very rows had up to thirteen times the false alarms that were asked.

        Args:
            path: the form that is packed.
            scores: shape (n,), of `given` by the form's own constants; they are the answer where it has none of
                these.
        """
        if self._fitted is None or not self._fitted.head.has_matrix:
            return scores
        found = scores.copy()
        for part in np.array_split(np.arange(len(self.given)), _FOLDS):
            if len(part):
                share = part[0] / len(self.given), (part[-1] + 1) / len(self.given)
                model = self._canonical(path, self._fitted.without(*share))
                has_state = self._scorer.has_state
                found[part] = self.normal_scores(model)[part] if has_state else self.scores(model, self.given[part])
        return found

    def _canonical(self, path: Path, head: Head | None) -> bytes:
        model = self._load(path)
        if head is not None:
            self._finish(model, head)
        self._note_types(model)
        return to_bytes(model, path)

    def _make_canonical(self, model: onnx.ModelProto) -> Head:
        """Find the head of a model, and append it."""
        frame = self._frame_of(model)
        seen = self.normal.some(frame.window)
        asked = self._asked(model, frame, frame.given(seen))
        probe, first = self._probe(model, frame, seen[:2])
        ahead = 0 if frame.features is not None else rows_ahead(first, min(len(seen), 2), seen.shape[2], asked)
        tried, before, frame = self.normal.tried(frame, ahead=ahead, is_given=self._options.horizon is not None)
        found = self._choose(model, probe, tried, before, frame=frame, asked=asked)
        # All windows of the head that was found: a trial of forecasts has fewer, with rows behind those that are seen.
        final = replace(frame, ahead=rows_ahead_of(found, self._options.horizon))
        windows = self.normal.some(final.window)
        before = self.normal.before(final.window)
        answers = self._scorer.try_out(probe, np.ascontiguousarray(windows[:, : final.seen]), before)
        check_raised(self._path, model, probe, windows[:, : final.seen], self._scorer)
        return self._settle(model, found, frame=final, given=final.given(windows), answers=answers)

    def _asked(self, model: onnx.ModelProto, frame: Frame, given: FloatArray) -> Asked:
        """What the user says, with the scalings that it names and those that may be needed."""
        options, own = self._options, own_scaling(model, frame, given.shape[2])
        self._scaling, unscale = (
            None
            if text is None
            else read_scaling(text, name, given, own, fitted=options.fitted, channels_first=frame.channels_first)
            for name, text in (("--scale", options.scale), ("--unscale", options.unscale))
        )
        check_not_twice(model, frame, given, self._scaling, options.scale)
        known = (*([("model", own)] if own else []), ("data", scaling_of(given)))
        return Asked(options.output, options.head, options.horizon, unscale or self._scaling, known)

    def _choose(
        self,
        model: onnx.ModelProto,
        probe: onnx.ModelProto,
        windows: FloatArray,
        before: NDArray[np.int64] | None,
        *,
        frame: Frame,
        asked: Asked,
    ) -> Head:
        """The head of a model, by its answers for some windows; asked about where the layout is open, too."""
        seen = np.ascontiguousarray(windows[:, : frame.seen])
        given, names, classes = frame.given(windows), frame.names(self.channels), class_labels(model)

        def attempt(answers: Sample, taken: Frame) -> Candidate | EdgeError:
            try:
                return choose(answers, given, taken.inner, channels=names, classes=classes, asked=asked)
            except (ConversionError, UsageError) as exc:
                return exc

        found = attempt(self._scorer.try_out(probe, seen, before), frame)
        if lies_open(model, frame, len(self.channels)):
            turned = replace(frame, channels_first=not frame.channels_first)
            other = self._scorer.try_out(self._fed(model, replace(turned, ahead=0)), seen, before)
            check_layout(found, attempt(other, turned), self._options.layout)
        if isinstance(found, EdgeError):
            raise found
        return found.head

    def _frame_of(self, model: onnx.ModelProto) -> Frame:
        """How the model takes readings, or features of them."""
        options, width = self._options, len(self.channels)
        features = parse_features(options.features, options.features_by, window=options.window, channels=width)
        if features is not None and options.window is not None:
            frame = frame_of_features(model, features, channels=width, window=options.window, links=self._links)
        else:
            told, links = options.told_channel(self.channels), self._links
            frame = frame_of(
                model, channels=width, window=options.window, layout=options.layout, left_out=told, links=links
            )
        return replace(frame, missing=self.missing)

    def _probe(self, model: onnx.ModelProto, frame: Frame, windows: FloatArray) -> tuple[onnx.ModelProto, Sample]:
        """The model fed with readings and nothing behind it, and its answers for two windows; the batch is free."""
        probe = self._fed(model, frame)
        alone = [self._scorer.try_out(probe, windows[i : i + 1]) for i in range(len(windows))]
        problem = ""
        try:
            together = self._scorer.try_out(probe, windows)
            if are_equal(together, alone):
                return probe, together
        except ConversionError as exc:
            problem = str(exc)
        if draws_numbers(model):
            raise ConversionError(
                f"{self._path}: draws random numbers, so no score of it comes again; export it in evaluation mode, or "
                "without its sampling"
            )
        notes = free_batch(model)
        freed = self._fed(model, frame)
        # What is left of the batch of one may fail; told is the trouble of the model as it came.
        with suppress(ConversionError):
            together = self._scorer.try_out(freed, windows) if notes else {}
            if notes and are_equal(together, alone):
                self._has_fixed_batch = True
                self.repairs += notes
                return freed, together
        raise of_one_window(self._path, problem)

    def _fed(self, model: onnx.ModelProto, frame: Frame) -> onnx.ModelProto:
        fed = copy_of(model)
        feed_readings(fed, frame, channels=len(self.channels), scaling=self._scaling)
        return fed

    def _settle(
        self,
        model: onnx.ModelProto,
        head: Head,
        *,
        frame: Frame,
        given: FloatArray,
        answers: Sample,
    ) -> Head:
        """Give a head its direction and its constants, and append it to the model."""
        options = self._options
        options.check_head(head.kind, is_error=head.is_error)
        answers = {name.removeprefix(PREFIX): values for name, values in answers.items()}
        answer = answers[head.name]
        if head.is_error or head.kind is HeadKind.DISTANCE:
            sign = sign_of_error(head.name, head.kind, options.higher_is)
        else:
            own = answer if head.column is None else class_of(head, answer, len(given)).squeeze()
            check_digits(head, own)
            sign = sign_of_score(own, answers.get(self._labels.get(head.name, "")), options.higher_is)
        if len(answer) != len(given):
            answer = answer.reshape(len(given), -1)  # skl2onnx puts the targets of a row one below the other
        self._fitted = Fitted(
            replace(head, sign=sign, score=options.score, in_scaled=options.error_in is ErrorIn.SCALED),
            answer,
            given,
            frame.inner,
        )
        head = self._fitted.on_all()
        if head.is_error:
            target = target_of(head, given, frame.inner)
            poor = poor_channels(reconstruct(head, answer, target), target)
            names = frame.names(self.channels) if head.channel is None else (head.which,)
            self.poor = tuple(name for name, is_poor in zip(names, poor, strict=True) if is_poor)
        self.frame = replace(frame, smoothed=options.smooth)
        self._take_windows()
        self._finish(model, head)
        return head

    def _take_windows(self) -> None:
        """The windows of the frame that was found."""
        self.windows = self.normal.some(self.window)
        before = self.normal.before(self.window)
        self._chain = None if before is None else Chain(self._scorer, self.windows, before)

    def _finish(self, model: onnx.ModelProto, head: Head) -> None:
        width = len(self.channels)
        moment = feed_readings(model, self.frame, channels=width, scaling=self._scaling)
        finish(model, head, self.frame, moment=moment, channels=width, smooth=self._options.smooth_by)

    def _load(self, path: Path) -> onnx.ModelProto:
        model = load_model(path)
        self.repairs = [
            *lower_versions(model),
            *unzip_maps(model),
            *spell_out_nan_tests(model),
            *(free_batch(model) if self._has_fixed_batch else []),
        ]
        return model

    def _note_types(self, model: onnx.ModelProto) -> None:
        """Settle what follows from the window, and note the type of each tensor that is left."""
        probe = with_all_outputs(model)

        def answer(batch: int) -> Sample:
            return self._scorer.try_out(probe, np.resize(self.windows, (batch, *self.windows.shape[1:])))

        settle_shapes(model, answer)
        note_types(model, self._scorer.try_out(with_all_outputs(model), self.windows[:2]))

    def normal_scores(self, model: bytes) -> FloatArray:
        """The scores that a canonical model gives `given`, each with what it gave for the one before: shape (n,)."""
        return self.scores(model, self.given) if self._chain is None else self._chain.scores(model)

    def sequence_scores(self, model: bytes, windows: FloatArray) -> FloatArray:
        """The same of the windows of all rows, in the order of `windows_with_rows`; NaN where they do not count."""
        before = self.normal.all_before(self.window)
        if self._chain is None or before is None:
            return self.scores(model, windows)
        return self._chain.scores_of(model, windows, before)

    def scores(self, model: bytes, windows: FloatArray, states: FloatArray | None = None) -> FloatArray:
        """The scores of a canonical model for windows by themselves, with states where it takes some: shape (n,)."""
        return self._scorer.answers(model, windows, states)[0]

    def answers(
        self, model: bytes, windows: FloatArray, states: FloatArray | None
    ) -> tuple[FloatArray, FloatArray | None]:
        """The same, and what it gives to be given back, shape (n, size)."""
        return self._scorer.answers(model, windows, states)
