"""Models of Keras as `edgetool export` converts them beside those of tf2onnx, in one runtime, in turns.

Of each, ours first: milliseconds to load, and microseconds for one window and for 64: the fastest of all turns.
Usage, after `make test-tensorflow`: .venv-tensorflow/bin/python tools/benchmarks/exported_keras.py [--turns 40]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import onnx

from edge_agent.engine.providers import import_runtime
from edgetool.frameworks.keras.by_tf2onnx import convert_function
from edgetool.frameworks.keras.convert import convert
from edgetool.frameworks.keras.starting import start

ROWS, CHANNELS, UNITS = 60, 8, 32
BATCHES = (1, 64)


def models(keras: Any) -> dict[str, Any]:
    """Untrained, for the time does not depend on the weights."""
    layers = keras.layers
    down = [layers.Conv1D(width, 7, padding="same", strides=2, activation="relu") for width in (UNITS, 16)]
    up = [layers.Conv1DTranspose(width, 7, padding="same", strides=2, activation="relu") for width in (16, UNITS)]
    steps = [layers.Conv1D(UNITS, 3, padding="causal", dilation_rate=2**n, activation="relu") for n in range(4)]
    found = {
        f"{kind.__name__} autoencoder": [
            kind(UNITS),
            layers.RepeatVector(ROWS),
            kind(UNITS, return_sequences=True),
            layers.TimeDistributed(layers.Dense(CHANNELS)),
        ]
        for kind in (layers.GRU, layers.LSTM)
    }
    found["convolution autoencoder"] = [*down, *up, layers.Conv1DTranspose(CHANNELS, 7, padding="same")]
    found["causal convolutions"] = [*steps, layers.Dense(CHANNELS)]
    return {name: keras.Sequential([keras.Input((ROWS, CHANNELS)), *chain]) for name, chain in found.items()}


def opened(model: onnx.ModelProto) -> Any:
    """A session on one thread."""
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def main(turns: int) -> None:
    """One line for each model: ours and tf2onnx's."""
    tensorflow, keras = start()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    for name, model in models(keras).items():
        spec = tensorflow.TensorSpec((None, ROWS, CHANNELS), tensorflow.float32, name="x")

        def called(values: Any, model: Any = model) -> dict[str, Any]:
            return {"y": model(values, training=False)}

        forms = [
            convert(model, name).model,
            convert_function(tensorflow, called, spec, what=name, outputs=["y"]),
        ]
        loads: list[list[float]] = [[], []]
        sessions = [opened(form) for form in forms]
        for _ in range(turns):
            for times, form in zip(loads, forms, strict=True):
                begin = time.perf_counter()
                opened(form)
                times.append(time.perf_counter() - begin)
        told = [f"{name}: load {_pair(loads, 1e3, 'ms')}"]
        for batch in BATCHES:
            given = rng.standard_normal((batch, ROWS, CHANNELS)).astype(np.float32)
            runs: list[list[float]] = [[], []]
            for _ in range(turns):
                for times, session in zip(runs, sessions, strict=True):
                    begin = time.perf_counter()
                    session.run(None, {session.get_inputs()[0].name: given})
                    times.append(time.perf_counter() - begin)
            told.append(f"{batch} windows {_pair(runs, 1e6, 'us')}")
        told.append(f"nodes {len(forms[0].graph.node)} and {len(forms[1].graph.node)}")
        print(", ".join(told), flush=True)


def _pair(times: list[list[float]], factor: float, unit: str) -> str:
    # The fastest turn, for what else the machine does can only add to it.
    ours, other = (min(each) * factor for each in times)
    return f"{ours:.3g} and {other:.3g} {unit}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=40)
    main(parser.parse_args().turns)
