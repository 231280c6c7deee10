"""One engine in a process of its own, for `engines.py`: loads a model, answers once, and is then timed in turns.

Runs in the environment of its engine, which has numpy and, but for the agent's, none of our packages. The task is one
JSON argument. Lines of JSON go out: the first answer, then what it answers in all, then one line for each request. A
request is a line `SIZE SECONDS`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ENGINES", "TELLING", "installed_bytes", "main", "reason_of"]

Floats = NDArray[np.float32]
Run = Callable[[Floats], Any]
"""From readings to the answers, the score first."""

TELLING = re.compile("No conversion rule|Unimplemented|Not Support|Trying to|no PyTorch form|not supported")
"""What a line of an error has that says what an engine cannot do."""
_LEAST_RUNS = 3
_SINGLES = 8


def _agent(path: str, threads: int, provider: str) -> Run:
    """The agent's engine, as it is opened on a device; the memory of loading is given back as there."""
    from edge_agent.engine.footprint import give_back_load_memory
    from edge_agent.engine.providers import PROVIDERS
    from edge_agent.engine.session import open_engine

    engine = open_engine(Path(path).read_bytes(), PROVIDERS[provider], threads=threads)
    give_back_load_memory()

    def run(readings: Floats) -> Any:
        scores = engine.score(readings)
        return scores.score, scores.contributions

    return run


def _onnxruntime(path: str, threads: int, _mode: str) -> Run:
    """What one would write after the first example of ONNX Runtime's documentation, with a number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda readings: session.run(None, {"readings": readings})


def _openvino(path: str, threads: int, precision: str) -> Run:
    """OpenVINO's API with one stream; `precision` is f32, or nothing for OpenVINO's own choice."""
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, **hints}
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def run(readings: Floats) -> Any:
        answers = request.infer({0: readings}, share_inputs=True, share_outputs=True)
        return [answers[number] for number in range(len(answers))]

    return run


def _torch(path: str, threads: int, mode: str) -> Run:
    """PyTorch on what `torch.export` saved; `mode` is eager or compile."""
    import torch

    torch.set_num_threads(threads)
    module: Any = torch.export.load(path).module(check_guards=False)
    if mode == "compile":
        module = torch.compile(module)

    def run(readings: Floats) -> Any:
        with torch.inference_mode():
            return [answer.numpy() for answer in module(torch.from_numpy(readings))]

    return run


def _litert(path: str, threads: int, _mode: str) -> Run:
    """LiteRT's interpreter with XNNPACK, its default."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    taken = interpreter.get_input_details()[0]["index"]
    # The order of the model's outputs is in their names, `output_0`.
    outputs = interpreter.get_signature_runner("serving_default").get_output_details()
    given = [outputs[name]["index"] for name in sorted(outputs)]

    def run(readings: Floats) -> Any:
        interpreter.set_tensor(taken, readings)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in given]

    return run


def _tract(path: str, threads: int, _mode: str) -> Run:
    """tract, which has one thread."""
    if threads != 1:
        raise ValueError("tract has one thread")
    import tract

    runnable = tract.onnx().load(path).into_model().into_runnable()
    return lambda readings: [answer.to_numpy() for answer in runnable.run([readings])]


def _mnn(path: str, threads: int, _mode: str) -> Run:
    """MNN in float32."""
    from MNN import expr, nn

    settings = {"backend": "CPU", "numThread": threads, "precision": "high"}
    outputs = json.loads(Path(path).with_suffix(".outputs").read_text(encoding="utf-8"))
    module = nn.load_module_from_file(
        path, ["readings"], outputs, runtime_manager=nn.create_runtime_manager((settings,))
    )

    def run(readings: Floats) -> Any:
        given = expr.const(readings, readings.shape, expr.NCHW)
        return [np.array(answer.read()) for answer in module.onForward([given])]

    return run


def _torchserve(path: str, threads: int, mode: str) -> Run:
    """TorchServe, asked by HTTP on this machine."""
    sys.path.append(str(Path(__file__).parent))
    from engine_torchserve import serve

    return serve(path, threads, mode)


ENGINES: dict[str, Callable[[str, int, str], Run]] = {
    "agent": _agent,
    "litert": _litert,
    "mnn": _mnn,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "torch": _torch,
    "torchserve": _torchserve,
    "tract": _tract,
}
"""What loads a model: its path, the threads, and the engine's mode."""


def installed_bytes(names: list[str]) -> int:
    """Size of the files of some packages and of all that they need, as they are installed here."""
    waiting, seen, size = [*names], set(), 0
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # needed elsewhere: on another system, or for an extra
        files = [Path(str(package.locate_file(file))) for file in package.files or []]
        size += sum(file.stat().st_size for file in files if file.is_file())
        needed = [text for text in package.requires or [] if "extra ==" not in text]
        waiting += [match.group() for text in needed if (match := re.match(r"[\w.-]+", text))]
    return size


def _resident_bytes() -> int:
    """Of this process and all that it has started, which have its group."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            group = int((folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[2])
            if group == os.getpgrp():
                pages += int((folder / "statm").read_text(encoding="ascii").split()[1])
        except OSError:
            continue  # it has just ended
    return pages * os.sysconf("SC_PAGE_SIZE")


def _timed(run: Run, readings: Floats, seconds: float) -> list[float]:
    """Microseconds of each run within so many seconds, at least three."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _LEAST_RUNS or time.perf_counter() < end:
        before = time.perf_counter_ns()
        run(readings)
        times.append((time.perf_counter_ns() - before) / 1e3)
    return times


def reason_of(text: str) -> str:
    """The line of an engine's error that says what it cannot do, at most 120 characters."""
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()] or ["no word why"]
    telling = [line for line in lines if TELLING.search(line)]
    return (telling or lines)[0][:120]


def main() -> None:
    """Serve one task until standard input ends."""
    # Some engines print; what they print must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(document: object) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    task = json.loads(sys.argv[1])
    sizes = [int(size) for size in task["models"]]
    readings = {size: np.ascontiguousarray(np.load(task["readings"])[:size]) for size in sizes}
    load = ENGINES[task["engine"]]
    loaded: dict[str, Run] = {}
    runs: dict[int, Run] = {}
    try:
        for size in sizes:
            path = task["models"][str(size)]
            runs[size] = loaded[path] = loaded.get(path) or load(path, task["threads"], task["mode"])
            runs[size](readings[size])
            if size == sizes[0]:
                say({"first": True})
    except Exception as exc:  # noqa: BLE001  # the errors of an engine have no other common base
        say({"failed": reason_of(str(exc) or type(exc).__name__)})
        return
    largest = readings[sizes[-1]]
    singles = [float(np.ravel(runs[1](row)[0])[0]) for row in np.split(largest, len(largest))[:_SINGLES]]
    scores = [float(value) for value in np.ravel(runs[sizes[-1]](largest)[0])]
    say(
        {
            "scores": scores,
            "singles": singles,
            "version": metadata.version(task["package"]),
            "installed_bytes": installed_bytes(task["counted"]),
        }
    )
    for line in sys.stdin:
        asked, seconds = line.split()
        times = _timed(runs[int(asked)], readings[int(asked)], float(seconds))
        say({"times_us": times, "memory_bytes": _resident_bytes()})
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # a server that was started ends with what asked for it


if __name__ == "__main__":
    main()
