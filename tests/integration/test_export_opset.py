"""`edgetool export --opset`: of every framework, in the opset that is asked for, with the framework's own answers."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import swings
import torch
import torch_models as kinds
from boosted_data import write
from parity_models import CHANNELS, MODELS, readings

from edge_agent.errors import AccuracyError, ConversionError
from edgetool.commands.export import ExportReport, export

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")

NAMES = ("isolation forest", "local outlier factor", "pyod tails", "xgboost", "lightgbm, random forest")


def exported(folder: Path, name: str, opset: int) -> ExportReport:
    saved = MODELS[name](folder, readings())
    data = write(folder / "rows.csv", readings(300, seed=1), ",".join(CHANNELS))
    return export(saved.path, folder / "m.onnx", data=data, trust_pickle=saved.path.suffix == ".joblib", opset=opset)


def standard(path: Path) -> int:
    return int(next(entry.version for entry in onnx.load(path).opset_import if not entry.domain))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("opset", [13, 18, 21])
def test_it_is_written_in_that_opset_and_compared(name: str, opset: int, tmp_path: Path) -> None:
    """scikit-learn, PyOD, XGBoost, LightGBM: above and below the 17 of our converters; loaded by the runtime."""
    report = exported(tmp_path, name, opset)
    assert (report.opset, standard(report.output)) == (opset, opset)
    assert report.agreed.deviation <= 1e-4
    onnx.checker.check_model(str(report.output), full_check=True)


def test_what_it_cannot_be_written_in_is_refused_by_name(tmp_path: Path) -> None:
    """The lowest opset that is named works, and nothing is written before."""
    with pytest.raises(ConversionError, match=r"LocalOutlierFactor.* has ReduceSum as opset 13 .* lowest .* in is 13"):
        exported(tmp_path, "local outlier factor", 12)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("opset", [17, 20])
def test_a_program_of_pytorch_is_written_in_that_opset(opset: int, tmp_path: Path) -> None:
    """Its exporter makes 18 whatever lower one it is asked for."""
    torch.manual_seed(0)
    batch = torch.export.Dim("batch")
    given = torch.zeros(2, swings.WINDOW, swings.CHANNELS)
    program = torch.export.export(kinds.Attention().eval(), (given,), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "m.pt2")
    report = export(tmp_path / "m.pt2", trust_code=True, opset=opset)
    assert (report.opset, standard(report.output)) == (opset, opset)
    with pytest.raises(ConversionError, match=r"m\.pt2 has LayerNormalization as opset 17 brought it"):
        export(tmp_path / "m.pt2", trust_code=True, opset=16)


def test_an_answer_that_the_opset_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison comes last, whatever is believed of an older operator, and says what the opset was."""

    def wrongly(model: onnx.ModelProto, *_: object) -> None:
        next(node for node in model.graph.node if node.op_type == "Exp").op_type = "Neg"

    monkeypatch.setattr("edgetool.commands.export.write_in", wrongly)
    with pytest.raises(AccuracyError, match="this is its form in opset 13, try it without --opset"):
        exported(tmp_path, "isolation forest", 13)
