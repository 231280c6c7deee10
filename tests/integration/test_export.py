"""Saved estimators of scikit-learn become models that answer as scikit-learn does, and bundles in one command."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
import skops.io
from numpy.typing import NDArray
from processes import run_tool
from sklearn.cluster import KMeans
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    AdaBoostRegressor,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.linear_model import LogisticRegression, Ridge, SGDOneClassSVM
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import KernelDensity, KNeighborsRegressor, LocalOutlierFactor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import OneClassSVM
from sklearn.tree import DecisionTreeRegressor

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS, import_runtime
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import AccuracyError, ConversionError, DataError, UsageError
from edgetool.commands.export import export
from edgetool.commands.pack import pack
from edgetool.frameworks.check import check
from edgetool.frameworks.ensemble import round_down
from edgetool.frameworks.made import Made, by_rows, empty_model, finish_model
from edgetool.graph.nodes import Nodes
from edgetool.graph.origin import Origin
from edgetool.verify.workbench import Workbench

Rows = NDArray[np.float64]
TREE = "sklearn.tree._tree.Tree"
BOOSTED = "sklearn.ensemble._hist_gradient_boosting"


def readings(count: int = 1200, *, seed: int = 0, missing: bool = False) -> Rows:
    """A temperature, a flow that follows it, a pressure of the air in pascal, a small current."""
    rng = np.random.default_rng(seed)
    rows = rng.normal([20, 5, 101325, 0.01], [1, 0.1, 0.5, 0.002], (count, 4))
    rows[:, 1] += 0.05 * (rows[:, 0] - 20)
    if missing:
        rows[rng.random(rows.shape) < 0.05] = np.nan
    return rows


def write(path: Path, rows: Rows, columns: str = "temp,flow,press,current") -> Path:
    text = "\n".join(",".join("" if np.isnan(v) else repr(float(v)) for v in row) for row in rows)
    path.write_text(f"{columns}\n{text}\n", encoding="utf-8")
    return path


def fitted(estimator: Any, rows: Rows) -> Any:
    """On the rows; what needs a target gets one of its kind."""
    value = np.nan_to_num(rows[:, 0], nan=20.0) * 2 + np.sin(30 * np.nan_to_num(rows[:, 1], nan=5.0))
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    name = type(last).__name__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(last, MLPRegressor):
            return estimator.fit(rows, StandardScaler().fit_transform(rows))
        if isinstance(last, ExtraTreesRegressor):
            return estimator.fit(rows, rows)
        if name.endswith("Classifier") or name == "LogisticRegression":
            return estimator.fit(rows, np.digitize(value, np.quantile(value, [0.4, 0.7])))
        return (
            estimator.fit(rows, value) if hasattr(last, "predict") and not _is_detector(last) else estimator.fit(rows)
        )


def _is_detector(last: Any) -> bool:
    return hasattr(last, "score_samples") or hasattr(last, "offset_") or isinstance(last, KMeans | LocalOutlierFactor)


S = StandardScaler
WHOLE = {
    "forest": IsolationForest(random_state=0, n_estimators=40),
    "forest of halves": make_pipeline(S(), IsolationForest(random_state=0, max_features=0.5, contamination=0.05)),
    "svm": make_pipeline(S(), OneClassSVM(nu=0.1)),
    "random waves": make_pipeline(
        S(), RBFSampler(gamma=0.2, n_components=60, random_state=0), SGDOneClassSVM(nu=0.1, random_state=0)
    ),
    "cubic svm": make_pipeline(S(), OneClassSVM(kernel="poly", nu=0.1)),
    "linear svm": make_pipeline(S(), OneClassSVM(kernel="linear", nu=0.1)),
    "sgd svm": make_pipeline(S(), SGDOneClassSVM(random_state=0)),
    "lof": make_pipeline(S(), LocalOutlierFactor(novelty=True)),
    "lof of raw readings": LocalOutlierFactor(novelty=True, n_neighbors=35),
    "envelope of raw readings": EllipticEnvelope(random_state=0),
    "mixture of raw readings": GaussianMixture(3, random_state=0),
    "tied mixture": make_pipeline(S(), GaussianMixture(3, covariance_type="tied", random_state=0)),
    "diagonal mixture": make_pipeline(S(), GaussianMixture(3, covariance_type="diag", random_state=0)),
    "round mixture": make_pipeline(S(), GaussianMixture(3, covariance_type="spherical", random_state=0)),
    "bayesian mixture": make_pipeline(S(), BayesianGaussianMixture(n_components=3, random_state=0)),
    "kmeans of raw readings": KMeans(5, random_state=0, n_init=3),
    "density": make_pipeline(RobustScaler(), KernelDensity(bandwidth=0.4)),
    "pca": make_pipeline(S(), PCA(2)),
    "white pca": make_pipeline(MinMaxScaler(), PCA(2, whiten=True)),
    "svd": make_pipeline(RobustScaler(), TruncatedSVD(2)),
    "autoencoder": make_pipeline(S(), MLPRegressor(hidden_layer_sizes=(8, 2, 8), max_iter=40, random_state=0)),
    "network": make_pipeline(S(), MLPClassifier((8,), activation="tanh", max_iter=40, random_state=0)),
    "tree": DecisionTreeRegressor(random_state=0, max_depth=8),
    "trees of several targets": ExtraTreesRegressor(10, random_state=0, max_depth=8),
    "classifier of trees": RandomForestClassifier(10, random_state=0),
    "ridge": make_pipeline(S(), Ridge()),
    "boosted": GradientBoostingRegressor(random_state=0, n_estimators=20),
    "boosted classes": make_pipeline(MinMaxScaler(), GradientBoostingClassifier(random_state=0, n_estimators=15)),
    "logistic": make_pipeline(S(), LogisticRegression()),
    "neighbours": make_pipeline(S(), KNeighborsRegressor()),
    "mixture of bent readings": make_pipeline(S(), PowerTransformer(), GaussianMixture(2, random_state=0)),
    "by skl2onnx": make_pipeline(S(), AdaBoostRegressor(random_state=0, n_estimators=5)),
}
WITH_HOLES = {
    "forest": IsolationForest(random_state=0, n_estimators=40),
    "trees": RandomForestRegressor(10, random_state=0),
    "boosted": HistGradientBoostingRegressor(random_state=0, max_iter=30),
    "boosted poisson": HistGradientBoostingRegressor(loss="poisson", random_state=0, max_iter=30),
    "boosted classes": HistGradientBoostingClassifier(random_state=0, max_iter=20),
    "trees behind quantiles": make_pipeline(
        QuantileTransformer(n_quantiles=50), HistGradientBoostingRegressor(random_state=0, max_iter=30)
    ),
    "forest of bent readings": make_pipeline(PowerTransformer(), IsolationForest(random_state=0, n_estimators=40)),
    "a scaler alone, which hands them on": S(),
    "imputed": make_pipeline(SimpleImputer(), S(), IsolationForest(random_state=0, n_estimators=40)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_it_answers_as_scikit_learn(name: str, tmp_path: Path) -> None:
    """Rows of the data and rows far out, alone and in batches, on readings around 101325 too."""
    rows = readings()
    joblib.dump(fitted(WHOLE[name], rows), tmp_path / "m.joblib")
    report = export(tmp_path / "m.joblib", data=write(tmp_path / "rows.csv", rows), trust_pickle=True)
    assert report.agreed.deviation <= 1e-4
    assert report.agreed.rows >= 1200
    assert report.origin.converter == ("skl2onnx" if "skl2onnx" in name else "edgetool")


@pytest.mark.parametrize("name", WITH_HOLES)
def test_missing_values_go_where_scikit_learn_sends_them(name: str, tmp_path: Path) -> None:
    """To the side that the training has chosen; compared on rows with holes."""
    rows = readings(missing=True)
    joblib.dump(fitted(WITH_HOLES[name], rows), tmp_path / "m.joblib")
    report = export(tmp_path / "m.joblib", data=write(tmp_path / "rows.csv", rows), trust_pickle=True)
    assert report.agreed.missing >= 64
    assert report.agreed.deviation <= 1e-4


def test_a_forest_is_one_operator(tmp_path: Path) -> None:
    """skl2onnx makes thousands of nodes of it."""
    rows = readings()
    joblib.dump(fitted(IsolationForest(random_state=0), rows), tmp_path / "m.pkl")
    report = export(tmp_path / "m.pkl", data=write(tmp_path / "rows.csv", rows), trust_pickle=True)
    model = onnx.load(report.output)
    assert [node.op_type for node in model.graph.node].count("TreeEnsembleRegressor") == 1
    assert len(model.graph.node) < 10


def test_thresholds_part_float32_numbers_as_float64_does() -> None:
    """A threshold that float32 does not have is rounded down, never up: x <= t is the same for each x."""
    thresholds = np.array([0.1, -0.1, 101325.004, 1e-42, 16777217.0, 3.0, np.inf])
    rounded = round_down(thresholds)
    assert (rounded.astype(np.float64) <= thresholds).all()
    assert (np.nextafter(rounded, np.float32(np.inf)).astype(np.float64)[:-1] > thresholds[:-1]).all()


def test_from_saved_file_to_bundle_in_one_command(tmp_path: Path) -> None:
    """The bundle's score is minus scikit-learn's decision function; the limit 0 of its own may be given."""
    rows = readings()
    detector = fitted(make_pipeline(S(), OneClassSVM(nu=0.05)), rows)
    skops.io.dump(detector, tmp_path / "svm.skops")
    data = write(tmp_path / "normal.csv", readings(seed=1))
    done = run_tool("edgetool", "pack", tmp_path / "svm.skops", "--data", data, "--alarm", "0")
    assert done.returncode == 0, done.stderr
    assert "exported   from Pipeline(StandardScaler, OneClassSVM) of scikit-learn" in done.stdout
    bundle = open_bundle(tmp_path / "svm-1.0.0.edge")
    assert bundle.manifest.exported is not None
    assert bundle.manifest.exported.deviation <= 1e-4
    assert bundle.manifest.threshold.alarm == 0
    probe = readings(300, seed=2).astype(np.float32)
    probe[::7, 0] += 4
    found = OrtEngine(bundle.model, PROVIDERS["cpu"]).score(probe[:, np.newaxis, :]).score
    expected = -detector.decision_function(probe.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())
    assert ((found >= 0) == (detector.predict(probe.astype(np.float64)) == -1)).all()
    shown = run_tool("edgetool", "inspect", tmp_path / "svm-1.0.0.edge")
    assert "from Pipeline(StandardScaler, OneClassSVM)" in shown.stdout


def test_an_error_names_the_file_that_the_user_knows(tmp_path: Path) -> None:
    """And not the one in between, which is gone."""
    skops.io.dump(fitted(make_pipeline(S(), OneClassSVM(nu=0.9)), readings()), tmp_path / "svm.skops")
    data = write(tmp_path / "normal.csv", readings(seed=1))
    done = run_tool("edgetool", "pack", tmp_path / "svm.skops", "--data", data, "--alarm=-1e9")
    assert done.returncode == 65
    assert f"edgetool: {tmp_path / 'svm.skops'}: made-up faults" in done.stderr


def test_what_the_exporter_knows_needs_no_word(tmp_path: Path) -> None:
    """Head and direction: a density, distances, a projection; the file in between is taken just so."""
    rows = readings()
    data = write(tmp_path / "normal.csv", readings(seed=1))
    for name, estimator in (
        ("mixture", make_pipeline(S(), GaussianMixture(2, random_state=0))),
        ("kmeans", make_pipeline(S(), KMeans(4, random_state=0, n_init=3))),
        ("pca", make_pipeline(S(), PCA(2))),
    ):
        skops.io.dump(fitted(estimator, rows), tmp_path / f"{name}.skops")
        made = export(tmp_path / f"{name}.skops", data=data)
        report = pack(made.output, tmp_path / f"{name}-1.0.0.edge", data=data, accept_weak=True)
        one_step = pack(tmp_path / f"{name}.skops", tmp_path / f"{name}-2.0.0.edge", data=data, accept_weak=True)
        assert report.manifest.threshold == one_step.manifest.threshold
        assert report.manifest.exported == one_step.manifest.exported
    assert (
        "smallest of the distances"
        in pack(tmp_path / "kmeans.skops", tmp_path / "k-1.0.0.edge", data=data, accept_weak=True).score_from
    )


def test_nothing_is_unpickled_before_somebody_trusts_it(tmp_path: Path) -> None:
    """By no command: a marker that the pickle would write is not there."""
    marker = tmp_path / "marker"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    joblib.dump(Trap(), tmp_path / "m.joblib")
    (tmp_path / "m.pkl").write_bytes((tmp_path / "m.joblib").read_bytes())
    data = write(tmp_path / "rows.csv", readings(50))
    for name in ("m.joblib", "m.pkl"):
        for command in ("export", "pack", "quantize", "compare", "inspect", "doctor", "bench", "optimize"):
            given = [tmp_path / name, *([tmp_path / name] if command == "compare" else [])]
            done = run_tool(
                "edgetool", command, *given, *(["--data", str(data)] if command in ("export", "pack") else [])
            )
            assert done.returncode in (2, 65), (command, done.stdout, done.stderr)
            assert not marker.exists(), command
            assert ("--trust-pickle" if command in ("export", "pack") else "saved by scikit-learn") in done.stderr
    with pytest.raises(ConversionError, match="expected an estimator of scikit-learn"):
        export(tmp_path / "m.joblib", data=data, trust_pickle=True)
    assert marker.exists()


def test_types_that_skops_does_not_know_are_named(tmp_path: Path) -> None:
    """With the option that allows them; nothing is guessed."""
    skops.io.dump(fitted(IsolationForest(random_state=0, n_estimators=5), readings()), tmp_path / "m.skops")
    data = write(tmp_path / "rows.csv", readings())
    done = run_tool("edgetool", "export", tmp_path / "m.skops", "--data", data)
    assert (done.returncode, f"--trust-type {TREE}" in done.stderr) == (2, True)
    done = run_tool("edgetool", "export", tmp_path / "m.skops", "--data", data, "--trust-type", TREE, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["origin"]["head"] == "score"


def test_classes_keep_their_labels(tmp_path: Path) -> None:
    """A score is the probability of the class that is named by its label."""
    rows = readings()
    worn = np.where(rows[:, 0] > 20.5, "worn", np.where(rows[:, 0] < 19.5, "cold", "good"))
    scaled = S().fit_transform(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = MLPClassifier((8,), max_iter=60, random_state=0).fit(scaled, worn)
    skops.io.dump(network, tmp_path / "m.skops")
    data = write(tmp_path / "rows.csv", scaled)
    made = pack(tmp_path / "m.skops", tmp_path / "m-1.0.0.edge", data=data, head="class:worn", accept_weak=True)
    assert made.score_from.startswith("class worn of output 'probabilities'")
    engine = OrtEngine(open_bundle(made.bundle).model, PROVIDERS["cpu"])
    found = engine.score(scaled.astype(np.float32)[:, np.newaxis]).score
    place = [*network.classes_].index("worn")
    np.testing.assert_allclose(found, network.predict_proba(scaled)[:, place], atol=1e-5)
    with pytest.raises(UsageError, match=r"(?s)class:cold.*class:good.*class:worn"):
        pack(tmp_path / "m.skops", tmp_path / "m-1.0.0.edge", data=data, accept_weak=True)


def test_a_soft_sensor_of_fewer_columns_is_told_how_it_is_packed(tmp_path: Path) -> None:
    """It takes all channels but the one that it tells."""
    rows = readings()
    joblib.dump(make_pipeline(S(), Ridge()).fit(rows[:, :3], rows[:, 3]), tmp_path / "m.joblib")
    data = write(tmp_path / "d.csv", rows, "temp,flow,press,current")
    with pytest.raises(DataError, match=r"was trained on 3;.*say so to pack with --head residual:CHANNEL"):
        pack(tmp_path / "m.joblib", data=data, trust_pickle=True)
    made = pack(tmp_path / "m.joblib", tmp_path / "m-1.0.0.edge", data=data, trust_pickle=True, head="residual:current")
    assert "which tells channel current" in made.score_from


def test_columns_are_taken_by_the_names_of_the_training(tmp_path: Path) -> None:
    """Whatever their order in the file; a missing one is named."""
    rows = readings()
    detector = fitted(make_pipeline(S(), PCA(2)), rows)
    detector[0].feature_names_in_ = np.array(["temp", "flow", "press", "current"], dtype=object)
    joblib.dump(detector, tmp_path / "m.joblib")
    turned = write(tmp_path / "turned.csv", rows[:, ::-1], "current,press,flow,temp")
    report = pack(tmp_path / "m.joblib", tmp_path / "m-1.0.0.edge", data=turned, trust_pickle=True, accept_weak=True)
    assert [channel.name for channel in report.manifest.channels] == ["temp", "flow", "press", "current"]
    with pytest.raises(UsageError, match="trained on the same columns in another order, temp,flow,press,current"):
        pack(
            tmp_path / "m.joblib",
            tmp_path / "m-1.0.0.edge",
            data=turned,
            channels="current:A,press:Pa,flow,temp:C",
            trust_pickle=True,
        )
    done = run_tool(
        "edgetool", "export", tmp_path / "m.joblib", "--trust-pickle", "--data",
        write(tmp_path / "less.csv", rows[:, :3], "temp,flow,press"),
    )  # fmt: skip
    assert done.returncode == 65
    assert "'current'" in done.stderr


@pytest.mark.parametrize(
    ("estimator", "problem"),
    [
        (IsolationForest(), "is not fitted"),
        (LocalOutlierFactor(), "novelty=True has no answer for new rows"),
        (make_pipeline(FunctionTransformer(np.log1p), PCA(2)), "nor does skl2onnx|no score_samples of it"),
    ],
)
def test_what_cannot_be_converted_is_named(estimator: Any, problem: str, tmp_path: Path) -> None:
    """With the step that stands in the way."""
    rows = readings()
    joblib.dump(estimator if "fitted" in problem else estimator.fit(rows), tmp_path / "m.joblib")
    with pytest.raises(ConversionError, match=problem):
        export(tmp_path / "m.joblib", data=write(tmp_path / "rows.csv", rows), trust_pickle=True)
    assert not (tmp_path / "m.onnx").exists()


def test_a_model_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    """A svm of unscaled readings, whose kernel is flat in float32: told, with the way out, and nothing is written."""
    rows = readings()
    joblib.dump(fitted(OneClassSVM(nu=0.1), rows), tmp_path / "m.joblib")
    data = write(tmp_path / "rows.csv", rows)
    with pytest.raises(
        AccuracyError, match=r"OneClassSVM: decision_function is .*--scale data; if not, put a Standard"
    ):
        export(tmp_path / "m.joblib", data=data, trust_pickle=True)
    assert not (tmp_path / "m.onnx").exists()


def test_wrong_use_is_told(tmp_path: Path) -> None:
    """ONNX already, files of other frameworks, other names, too few columns."""
    data = write(tmp_path / "rows.csv", readings(100))
    for name, problem in (
        ("m.ckpt", "holds weights without"),
        ("m.keras", "no file of Keras 3"),
        ("m.h5", "former format"),
        ("m.txt", "of no kind"),
    ):
        (tmp_path / name).write_bytes(b"something")
        with pytest.raises(ConversionError, match=problem):
            export(tmp_path / name, data=data)
    (tmp_path / "m.onnx").write_bytes(b"something")
    with pytest.raises(UsageError, match="is ONNX already"):
        export(tmp_path / "m.onnx", data=data)
    with pytest.raises(ConversionError, match="no such file"):
        export(tmp_path / "none.skops", data=data)
    (tmp_path / "bad.skops").write_bytes(b"something")
    with pytest.raises(ConversionError, match="is no file of skops"):
        export(tmp_path / "bad.skops", data=data)
    with pytest.raises(UsageError, match=r"ends with \.onnx"):
        export(tmp_path / "bad.skops", tmp_path / "m.edge", data=data)
    with pytest.raises(UsageError, match="--tolerance 2"):
        export(tmp_path / "bad.skops", data=data, tolerance=2)


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    """Also the bundle's model."""
    rows = readings()
    joblib.dump(fitted(IsolationForest(random_state=0, n_estimators=10), rows), tmp_path / "m.joblib")
    data = write(tmp_path / "rows.csv", rows)
    made = [export(tmp_path / "m.joblib", tmp_path / f"{n}.onnx", data=data, trust_pickle=True) for n in range(2)]
    assert made[0].output.read_bytes() == made[1].output.read_bytes()
    session = import_runtime().InferenceSession(str(made[0].output), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_outputs()] == ["decision_function"]


def test_some_steps_of_float32_are_no_dependence_on_the_batch(tmp_path: Path) -> None:
    """A pressure in Pa whose sum is made in another order, alone; a real dependence is told as ever."""
    model = empty_model(2)
    nodes = Nodes(model)
    finish_model(model, nodes, {"y": ("x", 2)})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    rows = np.random.default_rng(0).normal([101325.0, 20.0], [5.0, 1.0], (40, 2)).astype(np.float32)
    for steps, is_right in ((4, True), (400, False)):

        def answer(given: Rows, steps: int = steps) -> dict[str, Any]:
            off = steps * np.spacing(given.astype(np.float32)) if len(given) == 1 else 0.0
            return {"y": given + off}

        made = Made(model, by_rows(answer), Origin(framework="F", estimator="E"))
        with Workbench(tmp_path) as bench:
            if is_right:
                assert check(made, {"x": rows}, bench, tmp_path / "m.onnx", tolerance=1e-4).deviation == 0.0
            else:
                with pytest.raises(AccuracyError, match=r"F itself has another y for item 0 alone"):
                    check(made, {"x": rows}, bench, tmp_path / "m.onnx", tolerance=1e-4)


def test_an_answer_of_another_shape_is_a_refusal(tmp_path: Path) -> None:
    """And no broadcast: a converter that has lost a column would else be right about the others."""
    model = empty_model(2)
    nodes = Nodes(model)
    finish_model(model, nodes, {"y": ("x", 2)})
    made = Made(
        model, by_rows(lambda rows: {"y": np.column_stack([rows, rows[:, 0]])}), Origin(framework="F", estimator="E")
    )
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    given = {"x": np.ones((20, 2), dtype=np.float32)}
    with (
        Workbench(tmp_path) as bench,
        pytest.raises(AccuracyError, match="E: y has 2 values for each of 20 items, F gives 3"),
    ):
        check(made, given, bench, tmp_path / "m.onnx", tolerance=1e-4)


def test_a_value_that_a_regression_tells_is_asked_about(tmp_path: Path) -> None:
    """A soft sensor's value would be a score that is high where the sensor is; its error is meant."""
    rows = readings()
    skops.io.dump(make_pipeline(S(), Ridge()).fit(rows[:, 1:], rows[:, 0]), tmp_path / "temp.skops")
    data = write(tmp_path / "normal.csv", readings(seed=1))
    less = write(tmp_path / "less.csv", readings(seed=1)[:, 1:], "flow,press,current")
    with pytest.raises(UsageError, match=r"Ridge\) tells one value.*--head residual:CHANNEL.*--head score"):
        pack(tmp_path / "temp.skops", tmp_path / "t-1.0.0.edge", data=less)
    report = pack(tmp_path / "temp.skops", tmp_path / "t-1.0.0.edge", data=data, head="residual:temp", accept_weak=True)
    assert [channel.name for channel in report.manifest.channels] == ["temp", "flow", "press", "current"]


def test_a_step_whose_digits_float32_does_not_hold_is_refused_with_one_to_train(tmp_path: Path) -> None:
    """Nystroem's matrix is badly conditioned; what is named in its place is converted (`random waves` above)."""
    rows = readings(400)
    model = make_pipeline(S(), Nystroem(n_components=20, random_state=0), SGDOneClassSVM(random_state=0)).fit(rows)
    joblib.dump(model, tmp_path / "m.joblib")
    with pytest.raises(ConversionError, match=r"nor does skl2onnx .*; train RBFSampler in its place, or OneClassSVM"):
        export(tmp_path / "m.joblib", data=write(tmp_path / "n.csv", rows), trust_pickle=True)
