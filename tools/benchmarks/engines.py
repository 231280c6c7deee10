"""The agent's engine beside other engines: the same models, each engine in a process of its own, in turns.

    .venv/bin/python tools/benchmarks/engines.py [--with openvino,torch,…] [--cache FOLDER] [--zoo FOLDER] [--markdown]

The models are the bundles of models/ and five of the zoo where that is here. Every engine gets the canonical model in
float32, the agent's also what `edgetool quantize` makes of it. An engine that needs files of its own gets one for each
size of batch, which is more than the agent has. Engines are installed into the cache, with pinned versions, at the
first run; what cannot be had is told. Answers are held against the agent's, so that a wrong conversion cannot win.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from engine_child import TELLING, reason_of
from engine_installs import AGENT, CONVERTERS, NOT_TO_BE_HAD, OTHERS, Contender, environment, last_error
from engine_models import BATCHES, MODELS, ROOT, ZOO, Model, build, digest, with_fixed_batch
from engine_table import Row, answers_off, read_row, table, wins
from workload import machine

from edge_agent.engine.providers import available_providers
from edge_agent.engine.runtime import installed_runtimes

CHILD = Path(__file__).with_name("engine_child.py")
CONVERT = Path(__file__).with_name("engine_convert.py")
_TURN_S = 0.02
_ROUNDS = 7
_ANSWER_S = 300.0
"""For the first answer: what compiles takes its time."""


def tell(text: str) -> None:
    """Progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Child:
    """An engine with a model in a process of its own. The constructor starts it and waits for all its answers.

    Args:
        python: of the engine's environment.
        task: as `engine_child` reads it.
        cache: for what the engine compiles.

    Raises:
        RuntimeError: the engine cannot run the model; its last words are the message.
    """

    def __init__(self, python: Path, task: dict[str, Any], cache: Path) -> None:
        self._errors = cache / f"errors-{os.getpid()}.txt"
        own = {
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
            "ORT_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": str(ROOT),
        }
        with self._errors.open("wb") as errors:
            started = time.perf_counter()
            self._process = subprocess.Popen(
                [str(python), "-P", str(CHILD), json.dumps(task)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **own},
                start_new_session=True,
            )
        try:
            self._answer()
            self.start_s = time.perf_counter() - started
            self.answers = self._answer()
        except RuntimeError:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # with what it has started
        self._process.communicate()

    def take_turn(self, size: int) -> dict[str, Any]:
        """Times of batches of one size, and the memory after them."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{size} {_TURN_S}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            words = last_error(self._errors.read_text(encoding="utf-8", errors="replace"))
            raise RuntimeError(words if code >= 0 else f"ended by signal {-code}: {words}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer


class Bench:
    """The contenders with their environments, and the cache of what was made for them."""

    def __init__(self, cache: Path, families: list[str]) -> None:
        self._cache = cache
        runtime, self._version = next(iter(installed_runtimes().items()))
        names = {provider.name for provider in available_providers()}
        own = [replace(each, package=runtime, counted=(*each.counted, runtime)) for each in AGENT if each.mode in names]
        plain = Contender(f"plain script, {runtime}", "onnxruntime", runtime, counted=(runtime, "numpy"))
        self.contenders = [*own, plain]
        self._pythons = {"": Path(sys.executable)}
        self.not_here: list[str] = []
        for family in families:
            self._install(family)

    def _install(self, family: str) -> None:
        """Make the environments of a family, or note why there is none."""
        try:
            for name, packages in ((family, OTHERS[family][0].packages), (f"convert-{family}", CONVERTERS.get(family))):
                if packages:
                    self._pythons[name] = environment(self._cache, name, packages, tell=tell)
        except RuntimeError as exc:
            tell(f"{family} is left out: {exc}")
            self.not_here.append(f"{family}: {exc}")
            return
        self.contenders += OTHERS[family]

    def measure(self, model: Model, threads: int) -> list[Row]:
        """All contenders with one model, in turns."""
        rows: list[Row] = []
        with ExitStack() as stack:
            running: list[tuple[Row, Child]] = []
            for contender in self.contenders:
                for form in contender.forms:
                    row = Row(model.name, contender.name, form, threads)
                    rows.append(row)
                    if form not in model.forms:
                        row.failed = model.notes[form]
                        continue
                    try:
                        child = stack.enter_context(self._start(contender, model, form, threads))
                    except RuntimeError as exc:
                        row.failed = str(exc)
                        continue
                    running.append((row, child))
            agents = next((child.answers for row, child in running if row.is_agent and row.form == "float32"), None)
            if agents is None:
                raise RuntimeError(f"{model.name}: the agent itself does not run it: {rows[0].failed}")
            for row, child in running:
                _note(row, child, agents)
            _take_turns(running)
        return rows

    def _start(self, contender: Contender, model: Model, form: str, threads: int) -> Child:
        family = next((name for name, group in OTHERS.items() if contender in group), "")
        task = {
            "engine": contender.engine,
            "mode": contender.mode,
            "models": {size: str(self._file(contender, family, model, form, size)) for size in BATCHES},
            "threads": threads,
            "readings": str(model.readings),
            "package": contender.package,
            "counted": contender.counted,
        }
        tell(f"{model.name} {threads} thread(s): {contender.name} {form}")
        compiled = self._cache / "converted" / f"{model.name}-{digest(model.plain)}.compiled-{threads}"
        if contender.mode == "compile" and not compiled.exists():
            # What the compiler makes is kept, as the agent keeps what OpenVINO makes, and a start finds it.
            with Child(self._pythons[family], task, self._cache):
                compiled.touch()
        return Child(self._pythons[family], task, self._cache)

    def _file(self, contender: Contender, family: str, model: Model, form: str, size: int) -> Path:
        """What the engine loads for a size of batch.

        Raises:
            RuntimeError: the model has no form for this engine.
        """
        if not family:
            return model.forms[form]
        canonical = model.plain
        if not contender.converted:
            return canonical
        if family == "torchserve":
            # One server has all sizes, so all have one name.
            paths = [self._torch_file(model, each) for each in BATCHES]
            return paths[0].with_name(paths[0].name.replace(f".b{BATCHES[0]}.", ".b*."))
        folder = self._cache / "converted"
        folder.mkdir(exist_ok=True)
        stem = folder / f"{canonical.name.partition('.')[0]}-{digest(canonical)}.b{size}"
        fixed = with_fixed_batch(canonical, size, stem.with_name(f"{stem.name}.onnx"))
        target = stem.with_name(f"{stem.name}.{contender.converted}")
        if target.exists():
            return target
        if family == "litert":
            fixed = self._torch_file(model, size)
        if family == "mnn":
            outputs = [output.name for output in _outputs(fixed)]
            target.with_suffix(".outputs").write_text(json.dumps(outputs), encoding="utf-8")
            converter = str(self._pythons["mnn"].with_name("mnnconvert"))
            words = [converter, "-f", "ONNX", "--modelFile", str(fixed), "--MNNModel", str(target), "--bizCode", "edge"]
        else:
            python = self._pythons.get(f"convert-{family}") or self._pythons[family]
            words = [str(python), str(CONVERT), family, str(fixed), str(target)]
        tell(f"converting {target.name}")
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if not target.exists():
            said = done.stdout + done.stderr
            telling = [line for line in said.splitlines() if TELLING.search(line)]
            raise RuntimeError(f"not converted: {reason_of(telling[-1] if telling else last_error(said))}")
        return target

    def _torch_file(self, model: Model, size: int) -> Path:
        """What PyTorch loads, which other engines are made of."""
        torch = OTHERS["torch"][0]
        self._pythons["torch"] = environment(self._cache, "torch", torch.packages, tell=tell)
        return self._file(torch, "torch", model, "float32", size)


def _outputs(model: Path) -> Any:
    import onnx

    return onnx.load(model).graph.output


def _note(row: Row, child: Child, agents: dict[str, Any]) -> None:
    """What the child has answered before it is timed."""
    found = child.answers
    row.start_s, row.version, row.installed_bytes = child.start_s, found["version"], found["installed_bytes"]
    row.off = max(answers_off(found[kind], agents[kind]) for kind in ("scores", "singles"))


def _take_turns(running: list[tuple[Row, Child]]) -> None:
    """Time all sizes of batches in rounds; another engine is first in each round."""
    singles: dict[tuple[int, int], list[float]] = {}
    for number in range(_ROUNDS):
        for size in BATCHES:
            for position in range(len(running)):
                which = (number + position) % len(running)
                row, child = running[which]
                if row.failed:
                    continue
                try:
                    answer = child.take_turn(size)
                except RuntimeError as exc:
                    row.failed = f"fails when it is timed: {exc}"
                    continue
                row.rounds.setdefault(size, []).append(float(np.median(answer["times_us"])))
                singles.setdefault((which, size), []).extend(answer["times_us"])
                row.memory_bytes = answer["memory_bytes"]
    for (which, size), times in singles.items():
        running[which][0].p99_us[size] = float(np.percentile(times, 99))


def _tried(name: str) -> str:
    """The command for what is not to be had here, and what it says."""
    words = list(NOT_TO_BE_HAD[name])
    command = " ".join(words)
    if words[0] == "pip":
        words[:2] = [sys.executable, "-m", "pip", "install", "--dry-run"]
    tell(f"trying: {command}")
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as exc:
        return f"{name}: `{command}`: {exc.strerror}"
    said = last_error(done.stderr) if done.returncode else "can be installed, and has no loader in engine_child.py"
    return f"{name}: `{command}`: {said}"


def report(rows: list[Row], not_here: list[str], *, markdown: bool) -> None:
    """Print what was found."""
    if markdown:
        print(f"{machine()}, {datetime.now(UTC):%Y-%m-%d}\n\n{table(rows)}")
    else:
        for row in rows:
            figures = row.failed or (
                f"batch 1 {row.us(1):.1f} us, p99 {row.p99_us[1]:.1f}; batch 64 {row.us(64):.1f} us; "
                f"start {row.start_s:.2f} s; {row.memory_bytes / 1e6:.0f} MB; off by {row.off:.1e}"
            )
            print(f"{row.model} {row.threads} {row.name} {row.form}: {figures}")
    for line in [*wins(rows), *not_here]:
        print(f"- {line}")


def main() -> None:
    """Print a line for each engine and model, or a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--with", dest="families", default=",".join(OTHERS), help="engines beside the agent's")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "engines", help="environments and models")
    parser.add_argument("--zoo", type=Path, default=ROOT.parent / "shared" / "zoo", help="folder of NAME.onnx")
    parser.add_argument("--only", action="append", choices=[*MODELS, *ZOO], help="a model; may be given again")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--markdown", action="store_true", help="the table of docs/benchmarks.md")
    parser.add_argument("--json", type=Path, help="write all figures here; by default results.json in the cache")
    parser.add_argument("--results", type=Path, help="what --json wrote, instead of a run")
    options = parser.parse_args()
    if options.results:
        found = json.loads(options.results.read_text(encoding="utf-8"))
        report([read_row(row) for row in found["rows"]], found["not_here"], markdown=options.markdown)
        return
    families = [name for name in options.families.split(",") if name]
    if unknown := [name for name in families if name not in OTHERS and name not in NOT_TO_BE_HAD]:
        parser.error(f"--with {unknown[0]} is not known; there are: {', '.join([*OTHERS, *NOT_TO_BE_HAD])}")
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    bench = Bench(cache, [name for name in families if name in OTHERS])
    not_here = [*bench.not_here, *(_tried(name) for name in families if name in NOT_TO_BE_HAD)]
    names = options.only or [*MODELS, *(ZOO if options.zoo.is_dir() else ())]
    rows: list[Row] = []
    for name in names:
        tell(f"packing {name}")
        model = build(name, cache / "models" / name, options.zoo)
        for threads in options.threads:
            rows += bench.measure(model, threads)
            # After each, so that a run that is ended has not been for nothing.
            found = {"rows": [asdict(row) for row in rows], "not_here": not_here}
            (options.json or cache / "results.json").write_text(json.dumps(found), encoding="utf-8")
    report(rows, not_here, markdown=options.markdown)


if __name__ == "__main__":
    main()
