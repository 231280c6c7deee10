"""What the outputs of a model can be: by shape, type and name, by what the user says, and by trying them on the data.

Where more than one reading fits, none is taken: the user is shown what each would do, and says which it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ConversionError, UsageError
from edge_agent.messages.reading import FloatArray
from edgetool.choices import ANY_HEAD, HeadKind
from edgetool.detector.candidates import SHOWN, Asked, Candidate, by_name, is_error_name, is_score_name, question_of
from edgetool.detector.classes import are_probabilities, class_heads
from edgetool.detector.effects import error_in_words, of_each_channel, range_of
from edgetool.detector.frame import Frame
from edgetool.detector.head import PREFIX, Head, reconstruct, target_of
from edgetool.detector.orders import CLEARLY, REVERSED, other_order
from edgetool.detector.scaled_back import scaled_back
from edgetool.verify.arrays import Sample
from edgetool.verify.finite import unanswered
from edgetool.verify.saturated import saturated
from edgetool.verify.scores import Normal

__all__ = ["FURTHER", "choose", "rows_ahead"]

_FOLLOWS = 0.3
"""Spreads of its channel within which a number that is said to be a score is rather a value of that channel."""
_FORETELLS = 0.8
"""The same, of the next value of the only channel: what a good forecast of a noisy one is off by."""
FURTHER = 24
"""Rows further ahead at which a forecast is tried, too."""
_CLEARLY_SCALED = 2.0
"""An answer that is nearer by this factor once it is scaled back is scaled, though it is not far from the readings."""
_NEARER = 1.2
"""A forecast whose error is smaller by this factor against rows further ahead is asked about."""
_HARDLY = 0.9
"""An answer that is off by this share of its channel's spread, or more, explains hardly any of it; the error of a good
answer may look so, too."""
_SCALE = "--scale data, or --scale FILE with `mean` and `scale`"


def rows_ahead(answers: Sample, count: int, channels: int, asked: Asked) -> int:
    """How many rows behind those that a model sees are needed to try every forecast that its outputs can be, also of
    rows further ahead.

    Args:
        answers: the outputs for some windows.
        count: of these windows.
        channels: number of channels.
        asked: what the user says.
    """
    if asked.horizon is not None:
        return asked.horizon
    if asked.head.kind not in (HeadKind.AUTO, HeadKind.FORECAST, HeadKind.RESIDUAL):
        return 0
    sizes = [values.size // count for values in answers.values() if values.dtype.kind == "f" and values.size]
    return max((size // channels for size in sizes if size % channels == 0), default=0) + FURTHER


def choose(
    answers: Sample, windows: FloatArray, frame: Frame, *, channels: Sequence[str], classes: Sequence[str], asked: Asked
) -> Candidate:
    """The one reading of the one output that fits.

    Args:
        answers: the model's outputs for the rows of `windows` that it sees.
        windows: normal readings, shape (n, frame.moment, channels); `frame.ahead` rows are only for forecasts.
        frame: of these.
        channels: their names.
        classes: labels of a classifier's classes, in the order of its columns; empty where the model names none.
        asked: what the user says.

    Raises:
        ConversionError: nothing fits.
        UsageError: more than one reading fits.
    """
    answers = {name.removeprefix(PREFIX): values for name, values in answers.items()}
    shown = ", ".join(f"{name} {values.dtype}{list(values.shape)}" for name, values in answers.items())
    if asked.output is not None and asked.output not in answers:
        raise ConversionError(f"the model has no output {asked.output!r}; it has: {shown}")
    at = _Trial(windows, frame, channels, classes, asked)
    usable = {
        name: values
        for name, values in answers.items()
        if asked.output in (None, name) and values.dtype.kind == "f" and values.size and values.size % len(windows) == 0
    }
    fit = [candidate for name, values in usable.items() for candidate in at.candidates(name, values)]
    # A latent beside a reconstruction is no rival of it, so points come last.
    fit = fit or [candidate for name, values in usable.items() for candidate in at.points(name, values)]
    if all(each.unscale for each in fit):
        raise ConversionError(_nothing_fits(at, shown, at.of_one_channel(usable)))
    fit = by_name(fit) if asked.output is None else fit
    # A point has no direction of its own, so nothing but the user's word makes it a score.
    is_point = fit[0].head.kind in (HeadKind.DISTANCE, HeadKind.PROJECTION)
    if len(fit) > 1 or fit[0].horizon is not None or (is_point and asked.head.kind is HeadKind.AUTO):
        # Whose forecast is of scaled readings looks in vain for it among ways to read a point.
        beside = f". As an error it does not fit: {at.refused[0]}" if is_point and at.refused else ""
        raise UsageError(question_of(fit) + beside)
    doubt = at.order_of(fit[0].head, usable[fit[0].head.name])
    if doubt is not None:
        raise UsageError(doubt)
    return fit[0]


class _Trial:
    """Tries what outputs can be on normal windows."""

    def __init__(
        self, windows: FloatArray, frame: Frame, channels: Sequence[str], classes: Sequence[str], asked: Asked
    ) -> None:
        self.asked = asked
        self.refused: list[str] = []
        """Why errors that fit by their shape are none, in words."""
        self._windows = windows
        self._normal = Normal(windows)
        self._frame = frame
        self._channels = channels
        self._classes = classes

    def candidates(self, name: str, values: NDArray[np.floating]) -> list[Candidate]:
        """What an output can be."""
        wanted = self.asked.head.kind
        kinds = [HeadKind.FORECAST, HeadKind.RESIDUAL] if self.asked.horizon is not None else list(HeadKind)
        found = [head for head in self._by_shape(name, values) if head.kind in kinds and wanted in ("auto", head.kind)]
        tried = [candidate for head in found for candidate in self._try(head, values)]
        if np.isfinite(values).all():
            tried += [candidate for head in found for candidate in self._further(head, values)]
        if not tried and wanted is HeadKind.AUTO and self.asked.horizon is None:
            # Of one channel, scores of each row have the size of a reconstruction, and are refused as one.
            tried = [each for head in self._scores_of_rows(name, values) for each in self._try(head, values)]
        return tried if wanted is not HeadKind.AUTO or len(tried) < 2 else self._weigh(name, tried)

    def order_of(self, head: Head, values: NDArray[np.floating]) -> str | None:
        """Why an answer holds other rows or channels than its size suggests, or in another order; None if not."""
        is_forecast = head.kind is HeadKind.FORECAST
        if not is_forecast and head.kind is not HeadKind.RECONSTRUCTION:
            return None
        target, is_named = self._target(head), self.asked.head.kind is not HeadKind.AUTO
        has_horizon = is_forecast and self.asked.horizon is not None
        start = self._windows.shape[1] - head.rows if has_horizon else self._frame.seen if is_forecast else 0
        found = other_order(
            reconstruct(head, values, target),
            self._windows,
            seen=self._frame.seen,
            start=start,
            is_forecast=is_forecast,
            is_named=is_named or has_horizon,
            names=self._channels,
        )
        if found is None:
            return None
        of_all, is_of_itself = found
        what = f"what is output {head.name!r}? It has the size of a {head.kind.value}, and is nearer to {of_all}. "
        turn = " (in PyTorch, return answer.flip(1))" if of_all.startswith(REVERSED) else ""
        step = f"put that right in the model{turn}, or let it give the error itself and say --head score"
        if is_of_itself:
            return f"{what}So {step}"
        if is_forecast:
            return f"{what}The best forecast of noisy readings is so, too: --head forecast takes it as one. Else {step}"
        return f"{what}So {step}; --head {head.kind.value} takes it as one all the same"

    def points(self, name: str, values: NDArray[np.floating]) -> list[Candidate]:
        """What an output can be as a point."""
        size = values.size // len(self._windows)
        is_named = self.asked.head.kind in (HeadKind.DISTANCE, HeadKind.PROJECTION)
        is_other = size in (1, self._frame.seen * len(self._channels))
        if self.asked.horizon is not None or (is_other and not is_named):
            return []
        return [candidate for head in self._points(name, values) for candidate in self._try(head, values)]

    def _by_shape(self, name: str, values: NDArray[np.floating]) -> Iterator[Head]:
        """The heads that an output's size allows, and those that only the user can name."""
        count, _, width = self._windows.shape
        seen, size = self._frame.seen, values.size // count
        asked_for_it = self.asked.head.kind is HeadKind.FORECAST
        output = PREFIX + name
        if size == 1:
            yield Head(output, HeadKind.SCORE)
            yield from self._residuals(output, values)
        elif width > 1 or self.asked.head.kind is HeadKind.SCORE:
            yield from self._scores_of_rows(name, values)
        if size == seen * width:
            yield self._lies(Head(output, HeadKind.RECONSTRUCTION, rows=seen), values)
        if size % width == 0 and size // width <= self._frame.ahead and (max(seen, width) > 1 or asked_for_it):
            yield self._lies(Head(output, HeadKind.FORECAST, rows=size // width), values)
        if size > 1:
            asked, labels = self.asked.head, self._classes
            yield from class_heads(output, values, count=count, seen=seen, asked=asked, labels=labels)

    def _scores_of_rows(self, name: str, values: NDArray[np.floating]) -> Iterator[Head]:
        """A score for each row of the window, one of which counts, or their mean."""
        seen = self._frame.seen
        if values.size // len(self._windows) == seen > 1:
            ways = [self.asked.head.which] if self.asked.head.which else ["last", "mean", "max"]
            yield from (Head(PREFIX + name, HeadKind.SCORE, which=way, rows=seen) for way in ways)

    def _residuals(self, output: str, values: NDArray[np.floating]) -> Iterator[Head]:
        """The channel that the user names; without a name, those that the output follows closely."""
        names = list(self._channels)
        if self.asked.head.kind is HeadKind.RESIDUAL:
            places = [names.index(self.asked.head.which)]
        elif self.asked.head.kind is HeadKind.AUTO and len(names) > 1:
            places = sorted(self._followed(values.reshape(-1, 1)))
        else:
            return
        found = Head(output, HeadKind.RESIDUAL, unscale=self.asked.unscale)
        yield from (replace(found, which=names[place], channel=place) for place in places)

    def _followed(self, answer: NDArray[np.floating]) -> set[int]:
        """The channels whose newest or next value an answer follows closely, as it is or scaled back."""
        row = self._windows[:, -1 if self.asked.horizon else self._frame.seen - 1].astype(np.float64)
        later = self._windows[:, min(self._frame.seen, self._windows.shape[1] - 1)].astype(np.float64)
        scalings = [scaling for _, scaling in self.asked.scalings] if self.asked.unscale is None else []
        found: set[int] = set()
        for scaling in (self.asked.unscale, *scalings):
            told = answer if scaling is None else scaling.of(1, None).undo(answer)
            off = np.sqrt(np.minimum(np.square(row - told).mean(axis=0), np.square(later - told).mean(axis=0)))
            found |= set(np.flatnonzero(off <= _FOLLOWS * row.std(axis=0)).tolist())
        return found

    def _points(self, name: str, values: NDArray[np.floating]) -> Iterator[Head]:
        """An output as a point, whose distance from normal points counts."""
        asked, size = self.asked.head, values.size // len(self._windows)
        whole = self._frame.seen * len(self._channels)
        if asked.kind in (HeadKind.AUTO, HeadKind.DISTANCE):
            # What is below 0 is no distance from a centre of a cluster.
            ways = ["centre"] if values.min() < 0 else ["centre", "nearest"]
            yield from (Head(PREFIX + name, HeadKind.DISTANCE, which=way) for way in [asked.which] if way)
            if not asked.which:
                yield from (Head(PREFIX + name, HeadKind.DISTANCE, which=way) for way in ways)
        if asked.kind in (HeadKind.AUTO, HeadKind.PROJECTION) and size < whole:
            yield Head(PREFIX + name, HeadKind.PROJECTION, rows=self._frame.seen)

    def _lies(self, head: Head, values: NDArray[np.floating]) -> Head:
        """A head that knows how its windows lie: as its shape says or, where that leaves it open, as the input does."""
        width = len(self._channels)
        inner = tuple(n for n in values.shape[1:] if n != 1)
        if head.rows == 1 or width == 1:
            first = False
        elif head.rows != width and len(inner) == 2:
            first = inner == (width, head.rows)
        else:
            first = self._nearer(replace(head, unscale=self.asked.unscale), values)
        return replace(head, channels_first=first, unscale=self.asked.unscale)

    def _nearer(self, head: Head, values: NDArray[np.floating]) -> bool:
        """Whether a flat answer is channels first: as the input is, unless the other way is clearly nearer."""
        first = self._frame.channels_first
        if not np.isfinite(values).all():
            return first
        target = self._target(head)
        normal = Normal(target)
        ways = [reconstruct(replace(head, channels_first=way), values, target) for way in (first, not first)]
        usual = [float(np.median(normal.usual_error(way) / np.maximum(normal.spread, 1e-12))) for way in ways]
        return first if usual[1] * CLEARLY >= usual[0] else not first

    def _try(self, head: Head, values: NDArray[np.floating]) -> Iterator[Candidate]:
        """What a head does on the data, if it is one that can be."""
        if not head.is_error or head.kind is HeadKind.PROJECTION:
            yield Candidate(head, does=range_of(head, values, len(self._windows)))
            return
        target = self._target(head)
        is_guess = self.asked.head.kind is HeadKind.AUTO and head.kind is not HeadKind.RECONSTRUCTION
        if is_guess and not np.isfinite(values).all():
            return
        for each in unanswered([{head.name: values}], [{"readings": self._windows}]):
            raise ConversionError(f"output {each.in_words()}")
        answer = reconstruct(head, values, target)
        flat = saturated([{head.name: answer}], [{"readings": target}], is_reconstruction=True)
        normal = Normal(target)
        usual = normal.usual_error(answer)
        unlike, error = normal.unlike(usual), normal.in_spreads(usual)
        fitting = None
        if self.asked.unscale is None and (flat or error > _FOLLOWS):
            fitting = scaled_back(head, values, normal, self.asked.scalings)
        if fitting is not None and (flat or unlike.mean() > 0.5 or fitting.error * _CLEARLY_SCALED < error):
            self.refused.append(f"output {head.name!r} is scaled readings. {fitting.in_words}")
            does = error_in_words(head, fitting.error)
            yield Candidate(head, fitting.error, does, unscale=fitting.word)
            return
        if flat and head.kind is not HeadKind.RESIDUAL:
            self.refused.append(f"output {flat[0].in_words()}{f': {_SCALE}' if flat[0].cause else ''}")
            return
        if unlike.mean() > 0.5:
            self.refused.append(
                (self.order_of(head, values) if head.rows > 1 else None)
                or f"output {head.name!r} has the size of a {head.kind.value} and not its values: in "
                f"{int(unlike.sum())} of {len(unlike)} channels it is off by more than twice the spread. If the model "
                f"was trained on scaled readings, pack puts the scaling into it: {_SCALE}"
            )
            return
        poor = normal.poor(usual) | (normal.poor(usual / _HARDLY) & normal.may_be_left_over(answer))
        is_error = is_error_name(head.name) and error > _FOLLOWS
        if self.asked.head.kind is HeadKind.AUTO and (poor.mean() > 0.5 or is_error):
            why = (
                "by its name it is the error of one"
                if is_error
                else f"in {int(poor.sum())} of {len(poor)} channels the mean would be as good an answer, or nearly so"
            )
            self.refused.append(
                (self.order_of(head, values) if head.rows > 1 else None)
                or f"output {head.name!r} has the size of a {head.kind.value}, and {why}. {of_each_channel(values)}; "
                f"--head {head.kind.value} takes it as one all the same"
            )
            return
        yield Candidate(head, error, error_in_words(head, error))

    def _further(self, head: Head, values: NDArray[np.floating]) -> Iterator[Candidate]:
        """The same answer held against rows further ahead, if it is clearly nearer to these."""
        if self.asked.horizon is not None or head.kind not in (HeadKind.FORECAST, HeadKind.RESIDUAL):
            return
        near = 0 if head.kind is HeadKind.RESIDUAL else head.rows
        errors = {ahead: self._error_at(head, values, ahead) for ahead in range(near, self._frame.ahead + 1)}
        if head.kind is HeadKind.RESIDUAL and self.asked.head.kind is HeadKind.AUTO and self._frame.seen > 1:
            # Of a slow channel the newest row and the next are alike, and many forecasts are nearer to the newest.
            del errors[near]
            best = min(errors, key=errors.__getitem__, default=near)
            if best != near and errors[best] < _FORETELLS:
                yield self._ahead(head, best, errors[best])
            return
        best = min(errors, key=errors.__getitem__, default=near)
        if best != near and errors[best] * _NEARER < errors[near] and errors[best] < _FORETELLS:
            yield self._ahead(head, best, errors[best])

    def of_one_channel(self, usable: Sample) -> list[str]:
        """The options for what was said to be a forecast, and is one of a single channel."""
        if self.asked.head.kind is not HeadKind.FORECAST:
            return []
        other = _Trial(self._windows, self._frame, self._channels, (), replace(self.asked, head=ANY_HEAD))
        found = [each for name, values in usable.items() for each in other.candidates(name, values)]
        residuals = [
            replace(each, horizon=each.horizon or self.asked.horizon) for each in found if each.head.channel is not None
        ]
        return [f"{each.option} ({each.does})" for each in residuals if each.horizon is not None]

    @staticmethod
    def _ahead(head: Head, rows: int, error: float) -> Candidate:
        return Candidate(head, error, f"off the row {rows} ahead by {error:.2g} of the spread", rows)

    def _error_at(self, head: Head, values: NDArray[np.floating], ahead: int) -> float:
        """The median over the channels of an answer's error, in spreads, if it ends so many rows ahead."""
        end = self._frame.seen + ahead
        rows = self._windows[:, end - head.rows : end]
        channels = slice(None) if head.channel is None else slice(head.channel, head.channel + 1)
        target = rows[:, :, channels]
        off = np.square(target - reconstruct(head, values, target))
        usual = np.maximum(np.sqrt(off.mean(axis=(0, 1))), self._normal.smallest_error[channels])
        spread = self._normal.spread[channels]
        return float(np.median(usual / np.where(spread > 0, spread, usual)))

    def _target(self, head: Head) -> FloatArray:
        """What an answer is held against; without an option, a residual is of the newest row that the model sees."""
        if head.kind is HeadKind.FORECAST and self.asked.horizon is None:
            return self._windows[:, self._frame.seen : self._frame.seen + head.rows]
        if head.kind is HeadKind.RESIDUAL and self.asked.horizon is None:
            return target_of(head, self._windows[:, : self._frame.seen], self._frame)
        return target_of(head, self._windows, self._frame)

    def _weigh(self, name: str, tried: list[Candidate]) -> list[Candidate]:
        """Leave out what another reading of the same output makes unlikely."""
        kinds = {each.head.kind: each for each in reversed(tried)}
        is_near = any(each.head.is_error and each.error <= _FOLLOWS for each in tried)
        if HeadKind.SCORE in kinds and is_score_name(name) and not is_near:
            return [each for each in tried if each.head.kind is HeadKind.SCORE]
        if HeadKind.CLASS in kinds and not are_probabilities(self._windows[:, -1]):
            return [each for each in tried if each.head.kind is HeadKind.CLASS]
        given, ahead = kinds.get(HeadKind.RECONSTRUCTION), kinds.get(HeadKind.FORECAST)
        if given is not None and ahead is not None:
            # Of one row, what is nearer to that row than to the next is a reconstruction of it.
            clearly = CLEARLY if self._frame.seen > 1 else 1.0
            if given.error * clearly <= ahead.error:
                return [each for each in tried if each is not ahead]
            if ahead.error * clearly < given.error and self._frame.seen > 1:
                return [each for each in tried if each is not given]
        if HeadKind.SCORE in kinds and ahead is not None and ahead.error > _FORETELLS:
            return [each for each in tried if each is not ahead]
        return tried


def _nothing_fits(trial: _Trial, shown: str, of_one: Sequence[str]) -> str:
    if trial.refused:
        return trial.refused[0]
    asked = trial.asked
    name = f"output {asked.output!r}" if asked.output else "no output"
    can = "cannot be" if asked.output else "can be"
    if of_one:
        return f"{name} {can} a forecast of all channels; of one channel, say {' or '.join(of_one[:SHOWN])}"
    if asked.head.kind is not HeadKind.AUTO:
        return f"{name} {can} a {asked.head.kind.value}; the model has: {shown}"
    return (
        f"{name} {'is neither' if asked.output else 'is'} a score or a reconstruction of the readings; the model has: "
        f"{shown}. Say what it is with --head (edgetool pack --help lists the words)"
    )
