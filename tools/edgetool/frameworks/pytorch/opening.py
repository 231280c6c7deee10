"""Opens what PyTorch has saved, and runs nothing that is in it before the user has said so."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from edge_agent.errors import ConversionError, UsageError
from edgetool.extras import require
from edgetool.frameworks.one_line import one_line
from edgetool.frameworks.sources import FACTORY, Trust

__all__ = ["open_torch"]

_ALSO_SHAPE = (
    ", and say the shape of a row or window, which it does not hold: --shape 9, or --shape 60x9 for 60 rows of 9 "
    "channels, --shape 9x60 where it takes the channels first"
)
_LEVELS = ("state_dict", "model_state_dict")
"""Where checkpoints of PyTorch Lightning and of PyTorch's own examples have the weights."""


def open_torch(path: Path, trust: Trust, weights: Path | None, *, has_shapes: bool = True) -> Any:
    """What PyTorch runs: a `torch.export` program, a TorchScript module or a module, in evaluation mode.

    Args:
        path: the file, or `module.py:factory`.
        trust: what it may do.
        weights: for a factory's module.
        has_shapes: the user has said the shapes of what it takes; else a refusal asks for these, too.

    Raises:
        ConversionError: it is damaged, holds weights alone, or the weights are those of another module.
        MissingExtraError: PyTorch is not installed.
        UsageError: it holds code or a pickle that nobody has said to trust.
    """
    also = "" if has_shapes else _ALSO_SHAPE
    if weights is not None and FACTORY not in path.name:
        raise UsageError(f"--weights {weights}: is for module.py:factory, and {path} holds its own")
    if FACTORY in path.name:
        return _from_factory(path, weights)
    if path.suffix.lower() == ".pt2" and not zipfile.is_zipfile(path):
        raise ConversionError(f"{path}: is no program of PyTorch; it is damaged, or was not copied to its end")
    if not zipfile.is_zipfile(path):
        return _from_pickle(path, trust, also)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        is_program = any(name.endswith(("models/model.json", "serialized_exported_program.json")) for name in names)
        if any("aotinductor/" in name for name in names):
            raise ConversionError(
                f"{path}: holds code that is compiled for one machine; save the program itself: "
                "torch.export.save(program, 'model.pt2')"
            )
    if is_program:
        return _program(path, trust)
    if any("/code/" in name for name in names):
        return _script(path, trust, also)
    return _from_pickle(path, trust, also)


def _program(path: Path, trust: Trust) -> Any:
    if not trust.code:
        raise UsageError(
            f"{path}: is a program of PyTorch, which becomes Python when it is read, with whatever is in it. If you "
            "know who made it, allow it with --trust-code"
        )
    torch = require("torch", extra="torch")
    try:
        program = torch.export.load(path)
    # PyTorch raises classes of many modules for a file that it cannot read.
    except Exception as exc:
        raise ConversionError(
            f"{path}: cannot be read by PyTorch {torch.__version__} ({one_line(exc)}); programs are read by the "
            "version that saved them, or a later one"
        ) from exc
    return program


@contextmanager
def _found_here(*folders: Path) -> Iterator[None]:
    """Modules in these folders can be imported."""
    added = [str(folder) for folder in folders]
    sys.path[:0] = added
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)


def _script(path: Path, trust: Trust, also: str) -> Any:
    if not trust.code:
        raise UsageError(
            f"{path}: is TorchScript, which holds code. If you know who made it, allow it with --trust-code{also}; "
            "better, save the program: torch.export.save(torch.export.export(model.eval(), (x,)), 'model.pt2')"
        )
    torch = require("torch", extra="torch")
    try:
        return torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError as exc:
        raise ConversionError(f"{path}: cannot be read by PyTorch {torch.__version__} ({one_line(exc)})") from exc


def _from_pickle(path: Path, trust: Trust, also: str) -> Any:
    torch = require("torch", extra="torch")
    content = _tensors(torch, path)
    if content is not None:
        raise ConversionError(
            f"{path}: holds weights without the module that they are for: edgetool export model.py:factory "
            f"--weights {path} --shape …, where factory() makes the module"
        )
    if not trust.pickle:
        raise UsageError(
            f"{path}: is a pickle, which runs whatever code is in it when it is read. If you know who made it, allow "
            f"it with --trust-pickle{also}; better, save the program: "
            "torch.export.save(torch.export.export(model.eval(), (x,)), 'model.pt2')"
        )
    try:
        # A class that was imported in the training lies beside the file, or where the user is.
        with _found_here(path.resolve().parent, Path.cwd()):
            module = torch.load(path, map_location="cpu", weights_only=False)
    except (ModuleNotFoundError, AttributeError) as exc:
        raise ConversionError(
            f"{path}: needs the class that it was saved from ({exc}). Where that is at hand: torch.save("
            "model.state_dict(), 'weights.pt'); then edgetool export FILE.py:CLASS --weights weights.pt --shape …, "
            "with the class in a file that does nothing else"
        ) from exc
    # A pickle may raise anything.
    except Exception as exc:
        raise ConversionError(f"{path}: cannot be read ({one_line(exc)})") from exc
    return _in_evaluation(torch, module, str(path))


def _tensors(torch: Any, path: Path) -> dict[str, Any] | None:
    """What a file of tensors holds; None of another one."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001  PyTorch raises classes of many modules; whoever asks goes on to say what it is.
        return None
    return content if isinstance(content, dict) else None


def _from_factory(path: Path, weights: Path | None) -> Any:
    torch = require("torch", extra="torch")
    file, _, name = str(path).rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    if spec is None or spec.loader is None:
        raise ConversionError(f"{file}: is no Python module")
    module = importlib.util.module_from_spec(spec)
    # As `python model.py` does: what lies beside it can be imported, and classes find their module.
    sys.modules[spec.name] = module
    try:
        # What it prints is nothing of ours: with --json, stdout is one document.
        with _found_here(Path(file).resolve().parent), redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
            made = getattr(module, name, None)
            if made is None:
                raise ConversionError(f"{path}: {file} has no {name!r}")
            found = made if isinstance(made, torch.nn.Module) else _called(path, made)
    except ConversionError:
        raise
    # It is the user's code, which may be a whole training that ends the program.
    except (Exception, SystemExit) as exc:
        raise ConversionError(
            f"{path}: raised {type(exc).__name__}: {exc}; give a file that holds the class and no more"
        ) from exc
    found = _in_evaluation(torch, found, str(path))
    if weights is not None:
        _load_weights(torch, found, weights)
    return found


def _called(path: Path, factory: Any) -> Any:
    """What a class or function without parameters makes."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return factory()
    needed = [
        each.name
        for each in signature.parameters.values()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if needed:
        file, _, name = str(path).rpartition(":")
        raise ConversionError(
            f"{path}: {name} takes {', '.join(needed)}, which nothing here knows. Add a function that gives them, "
            f"such as def build(): return {name}({', '.join(f'{each}=…' for each in needed)}), and give {file}:build"
        )
    return factory()


def _in_evaluation(torch: Any, module: Any, what: str) -> Any:
    if not isinstance(module, torch.nn.Module):
        raise ConversionError(f"{what}: gives a {type(module).__name__}, expected a torch.nn.Module")
    return module.eval().to("cpu")


def _load_weights(torch: Any, module: Any, path: Path) -> None:
    if not path.is_file():
        raise ConversionError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        try:
            state = require("safetensors.torch", extra="torch").load_file(path)
        # safetensors raises a class of its own, and Python's.
        except Exception as exc:
            raise ConversionError(f"{path}: cannot be read ({one_line(exc)})") from exc
    else:
        state = _tensors(torch, path)
    if state is None:
        raise ConversionError(
            f"{path}: holds more than plain tensors, such as a whole module or settings of a training. Where its "
            "classes are at hand: state = torch.load(FILE, weights_only=False); then torch.save(state.state_dict(), "
            "'weights.pt') of a module, or torch.save(state['state_dict'], 'weights.pt') of a checkpoint"
        )
    state = _below(path, state, set(module.state_dict()))
    wanted = set(module.state_dict())
    missing, unknown = sorted(wanted - set(state)), sorted(set(state) - wanted)
    if missing or unknown:
        parts = [f"lacks {', '.join(missing[:5])}"] * bool(missing) + [f"has {', '.join(unknown[:5])}"] * bool(unknown)
        raise ConversionError(f"{path}: are weights of another module: it {' and '.join(parts)}")
    try:
        module.load_state_dict(state)
    except RuntimeError as exc:
        raise ConversionError(f"{path}: are weights of another module ({one_line(exc)})") from exc


def _below(path: Path, state: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
    """The weights of a checkpoint: one level down, and maybe below the name of the module, beside those of others."""
    levels = {name: inner for name, inner in state.items() if isinstance(inner, dict)}
    # A checkpoint of one's own names them as one likes: `model` beside the state of an optimizer.
    fitting = [name for name, inner in levels.items() if wanted <= inner.keys()]
    if len(fitting) > 1:
        raise ConversionError(
            f"{path}: has weights of this module under {' and '.join(fitting)}; save those that are meant: "
            f"torch.save(torch.load(FILE)[{fitting[0]!r}], 'weights.pt')"
        )
    for name in (*_LEVELS, *fitting):
        if name in levels:
            state = levels[name]
            break
    for name in state:
        prefix, _, rest = name.partition(".")
        if rest in wanted and name not in wanted and all(f"{prefix}.{each}" in state for each in wanted):
            return {each: state[f"{prefix}.{each}"] for each in wanted}
    return state
