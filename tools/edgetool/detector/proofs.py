"""What a detector has to show before it becomes a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_agent.errors import ConversionError, DataError
from edge_agent.messages.reading import FloatArray
from edgetool.data import SensorData, column_at_windows, labelled_windows
from edgetool.detector.detector import Detector
from edgetool.detector.direction import SignFrom
from edgetool.detector.expected import Agreement, check_expected
from edgetool.detector.missing import check_answers
from edgetool.detector.options import DetectorOptions
from edgetool.detector.outliers import SignEvidence, SignVerdict, weigh_sign
from edgetool.detector.own_scaling import raw_into_network
from edgetool.detector.trial import LASTS, Trial, try_detector
from edgetool.graph.origin import Origin
from edgetool.verify.finite import unanswered
from edgetool.verify.saturated import saturated

__all__ = ["agree", "check_finite", "check_missing", "put_to_trial", "raw_readings", "weigh_direction"]


def check_missing(detector: Detector, packed: bytes) -> tuple[str, ...]:
    """Refuse a model that has no answer for missing values though it gets them.

    Returns:
        The channels without which it tells windows apart no more.

    Raises:
        ConversionError: it has none.
    """
    if detector.missing is None or detector.missing.fill is not None:
        return ()
    return check_answers(lambda windows: detector.scores(packed, windows), detector.windows, detector.channels)


def check_finite(path: Path, given: FloatArray, scores: FloatArray, detector: Detector) -> None:
    """Refuse scores that are no number for some windows, or the same for all of them.

    Args:
        path: of the model.
        given: of `detector.given`.
        scores: of `detector.windows`.
        detector: has these windows.

    Raises:
        DataError: they are.
    """
    for each in unanswered([{"score": given}], [{"readings": detector.given}]):
        raise DataError(f"{path}: {each.in_words()}")
    for flat in saturated([{"score": scores}], [{"readings": detector.windows}]):
        step = "" if flat.cause else "; is this the right output? name it with --output-name"
        raise DataError(f"{path}: {flat.in_words()}{step}")


def weigh_direction(detector: Detector, scores: FloatArray, rows: SensorData) -> SignEvidence | None:
    """What outliers say of the sign; refused where they contradict one that nobody has given. None of an error."""
    if detector.sign.found is SignFrom.ERROR:
        return None
    labelled = labelled_windows(rows, window=detector.window, stride=detector.stride, policy=detector.normal.policy)
    evidence = weigh_sign(
        lambda more, states: _lasting_scores(detector, detector.model, more, states)[-1],
        detector.windows,
        scores,
        labelled,
        states=detector.states,
    )
    if evidence.verdict is SignVerdict.CONTRADICTED and detector.sign.found is not SignFrom.GIVEN:
        raise ConversionError(
            f"which way does the score point ({detector.score_from})? {evidence.in_words(detector.sign)}. Say what a "
            "high value of the model's own output means: --higher-is normal, or --higher-is anomalous"
        )
    return evidence


def agree(
    detector: Detector,
    rows: SensorData,
    wanted: NDArray[np.float64] | None,
    *,
    scores: FloatArray,
    alarm: float,
    tolerance: float,
) -> Agreement | None:
    """How the scores agree with those of the author's own code."""
    if wanted is None:
        return None
    expected = column_at_windows(
        rows, wanted, window=detector.window, stride=detector.stride, policy=detector.normal.policy
    )
    expected = detector.that_count(expected)
    turned = -expected if detector.sign.flipped else expected
    return check_expected(turned, scores, alarm=alarm, tolerance=tolerance)


def put_to_trial(
    path: Path,
    detector: Detector,
    packed: bytes,
    *,
    scores: FloatArray,
    alarm: float,
    is_given: bool = False,
    accept_weak: bool,
) -> Trial:
    """How made-up faults score; refused where few of them reach the limit, which the user may have given."""
    trial = try_detector(
        lambda more, states: _lasting_scores(detector, packed, more, states).max(axis=0),
        detector.windows,
        scores,
        alarm=alarm,
        watched=detector.watched,
        states=detector.states,
        given_beside=float(scores.max()) if is_given else None,
    )
    if trial.is_weak and not accept_weak:
        several = f"; several channels, {trial.together_in_words}" if trial.together else ""
        raise ConversionError(
            f"{path}: made-up faults hardly reach the alarm limit, or score as more normal than normal windows (one "
            f"channel {trial.alone_in_words}{several}), so the bundle would stay silent. Its score is "
            f"{detector.score_from}; "
            f"{trial.advice} (--accept-weak packs it all the same)"
        )
    return trial


def _lasting_scores(
    detector: Detector, model: bytes, windows: FloatArray, states: FloatArray | None
) -> NDArray[np.float32]:
    """The scores of windows, each coming again and again where the model keeps a state: shape (times, n).

    One reading that is off moves a mean of a hundred by a hundredth; a fault lasts.
    """
    if states is None:
        return detector.scores(model, windows)[np.newaxis]
    found = []
    for _ in range(LASTS):
        scores, states = detector.answers(model, windows, states)
        found.append(scores)
    return np.stack(found)


def raw_readings(model: onnx.ModelProto, detector: Detector, options: DetectorOptions, origin: Origin | None) -> str:
    """That a network takes large readings as they are, in words; empty where it does not.

    Only of a score of the model's own: an error shows by itself whether the answer is in the readings' units. Who saves
    an estimator of scikit-learn saves its scaler with it.
    """
    is_table = origin is not None and not origin.framework.startswith(("PyTorch", "Keras", "TensorFlow"))
    if is_table or options.scale is not None or options.features is not None or detector.sign.found is SignFrom.ERROR:
        return ""
    return raw_into_network(model, detector.frame, detector.windows, detector.channels)
