"""A new bundle on its way to an agent that is killed, cut off, starved or deceived: the right model runs afterwards."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from brokers import broker_named
from fakes import slow_model, write_bundle
from marking import Marking, entry
from nacl.signing import SigningKey
from operators import Operator, public_file, sign_bundle
from plan import FIRST_TIME_S, SEED, Plan, seconds
from processes import Agent, wait_until, write_config
from rig import Report, Rig, hooked, rig

from edge_agent.bundle import open_bundle
from edge_agent.cli.options import open_bundles
from edge_agent.config.load import load_config
from edge_agent.update.beginning import Beginning
from edge_agent.update.store import Store

ENDLESS = 10_000_000
KEY = SigningKey.generate()
PIECE_BYTES = 2_000
"""Small, so that a step which takes no time with one piece is one that can be met."""
FINAL = ("settled", "rolled_back", "refused", "given_up")


def make_bundle(folder: Path, version: str, *, padding: int = 0, **options: Any) -> Path:
    """A signed detector for the plan's readings; padding makes it a larger file."""
    changes = {"version": version, **options.pop("changes", {})}
    path = write_bundle(folder / f"square-{version}.edge", window=Plan(readings=0).window, changes=changes, **options)
    if padding:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("padding.bin", random.Random(version).randbytes(padding))
    return sign_bundle(path, KEY)


@contextmanager
def updating(
    folder: Path,
    report: Report,
    *,
    engine: str = "",
    rate_hz: float = 200,
    judged_from: list[int] | None = None,
    another_model: bool = False,
    **options: Any,
) -> Iterator[tuple[Rig, Operator]]:
    """A rig whose agent takes updates, with readings that come all the time; at the end, every event must have come, or
    those of readings from the number on that stands in `judged_from` then.
    """
    key = public_file(folder / "plant.pub", KEY)
    trust = f'provider = "cpu"\n{engine}\n[trust]\nkeys = ["{key}"]'
    bundle = make_bundle(folder, "1.0.0")
    plan = Plan(readings=ENDLESS, another_model=another_model)
    with (
        rig(folder, plan, engine=trust, bundle=bundle, **options) as at,
        Operator(at.broker.port, KEY, stream=at.plan.stream) as operator,
    ):
        sending = at.sending(rate_hz=rate_hz)
        at.sent = lambda: sending.sent
        try:
            yield at, operator
        finally:
            at.end_of(sending)
        verdict = at.verdict(from_number=(judged_from or [0])[-1])
        report(**at.facts(verdict))
        assert not verdict.problems, "\n".join(map(str, verdict.problems[:20]))


def wait_final(operator: Operator, wish: dict[str, Any]) -> dict[str, Any]:
    """Until a wish has come to its end, and the agent runs what follows from it."""

    def is_final() -> bool:
        now = operator.now
        if now.get("sequence") != wish["sequence"] or now["state"] not in FINAL:
            return False
        settled = now["state"] == "settled"
        return bool((now["running"]["version"] == wish["bundle"]["version"]) is settled)

    try:
        wait_until(is_final, 90)
    except AssertionError:
        raise AssertionError(f"no end of {wish['bundle']}; told last: {operator.now}") from None
    return operator.now


@pytest.mark.timeout(3600)
def test_killed_at_each_step_of_an_update(tmp_path: Path, full: bool, report: Report) -> None:
    """SIGKILL at each step of an update: the right model runs then, no alert lost or doubled."""
    steps = ("fetching", "proving", "shadow", "switched", "probation")
    rounds = 20 if full else 2
    ends: dict[str, int] = {}
    versions = (f"1.{number}.0" for number in itertools.count(1))
    with updating(tmp_path, report) as (at, operator):
        chance = at.plan.chance()
        for step, version in zip(itertools.chain.from_iterable([steps] * rounds), versions, strict=False):
            running = operator.now.get("running", {"version": "1.0.0"})["version"]
            bundle = make_bundle(tmp_path, version, padding=200_000 if step == "fetching" else 0)
            wish = operator.deploy(bundle, shadow=(100, 0.03), probation=(300, 0.03), chunk_bytes=PIECE_BYTES)

            def is_there(sequence: int = wish["sequence"], step: str = step) -> bool:
                return any(each["sequence"] == sequence and each["state"] == step for each in list(operator.told))

            wait_until(is_there, 60, f"the step {step} of {version}")
            # The random moment.
            time.sleep(chance.uniform(0.0, {"proving": 1.0, "probation": 1.0}.get(step, 0.2)))
            at.agent.kill()
            at.agent.start()
            told = wait_final(operator, wish)
            ends[f"{step} {told['state']}"] = ends.get(f"{step} {told['state']}", 0) + 1
            expected = version if told["state"] == "settled" else running
            assert told["running"]["version"] == expected
            assert told["state"] == "settled" or "ended over it" in told["reason"]
            # A message over which two runs end is set aside, and nobody can tell these kills from its doing.
            wait_until(lambda: heard_of_all(at), 60, "the backlog of the kill")
    report(kills=5 * rounds, **{key.replace(" ", "_"): count for key, count in ends.items()})


def heard_of_all(at: Rig) -> bool:
    """Whether an event of one of the last readings has come: nothing waits at the broker."""
    return time_of_last(at) > FIRST_TIME_S + at.sent() - 200


def test_power_cut_in_an_update(tmp_path: Path, full: bool, report: Report) -> None:
    """Power cut at each step of an update: whatever of the files a disk has kept, a whole bundle runs, old or new."""
    taken: list[Path] = []
    with updating(tmp_path, report) as (at, operator):
        store = tmp_path / "state" / "updates"
        wish = operator.deploy(
            make_bundle(tmp_path, "1.1.0", padding=200_000),
            shadow=(100, 0.02),
            probation=(100, 0.02),
            chunk_bytes=PIECE_BYTES,
        )
        while not taken or operator.now.get("state") not in FINAL:
            copy = tmp_path / f"copy{len(taken)}"
            try:
                shutil.copytree(store, copy)
            except (FileNotFoundError, shutil.Error):  # a file was renamed meanwhile
                shutil.rmtree(copy, ignore_errors=True)
            else:
                taken.append(copy)
            time.sleep(0.1)  # between two moments of the cut
        wait_final(operator, wish)
    config = at.agent.config
    chance = random.Random(SEED)
    runs = {"1.0.0": 0, "1.1.0": 0}
    cuts = 0
    for copy in taken:
        for cut in range(6 if full else 2):
            shutil.rmtree(store)
            shutil.copytree(copy, store)
            for file in store.rglob("*"):
                # What has its name is on the disk. A piece that was written is there in part, or not at all.
                if cut and file.suffix in (".part", ".tmp"):
                    file.write_bytes(file.read_bytes()[: chance.randint(0, file.stat().st_size)])
            cuts += 1
            bundles = open_bundles(Beginning(load_config(config)).take_up())
            runs[bundles[0].manifest.version] += 1
    report(moments=len(taken), power_cuts=cuts, old_runs=runs["1.0.0"], new_runs=runs["1.1.0"])
    assert runs["1.0.0"]
    assert runs["1.1.0"]


@pytest.mark.parametrize("persistence", [True, False])
def test_broker_restarted_in_an_update(tmp_path: Path, report: Report, persistence: bool) -> None:
    """The broker killed while pieces come, with and without persistence: the update waits, says for what, goes on."""
    judged_from: list[int] = []
    with updating(tmp_path, report, persistence=persistence, judged_from=judged_from) as (at, operator):
        bundle = make_bundle(tmp_path, "1.1.0", padding=400_000)
        wish = operator.deploy(bundle, chunk_bytes=PIECE_BYTES)
        operator.wait_state("fetching")
        # It keeps what it has at a planned end only; and readings that it had and lost are not the agent's to score.
        at.broker.stop(signal.SIGTERM if persistence else signal.SIGKILL)
        at.broker.start()
        if not persistence:
            told = operator.wait_state("waiting")
            assert "is not at the broker" in told["reason"]
            at.sender.drain()
            judged_from.append(round(time_of_last(at) - FIRST_TIME_S) + 100)
            operator.put_pieces(bundle, PIECE_BYTES)
        told = wait_final(operator, wish)
        report(pieces=operator.part(bundle)["size_bytes"] // PIECE_BYTES, end=told["state"])
        assert told["state"] == "settled"


def time_of_last(at: Rig) -> float:
    """Time of the newest reading that an event was of, epoch seconds."""
    return max(seconds(event) for event in at.subscriber.alerts)


@pytest.mark.parametrize("how", ["flipped", "truncated", "foreign", "missing", "again"])
def test_pieces_that_are_wrong(tmp_path: Path, report: Report, how: str) -> None:
    """A piece flipped, truncated, of another bundle, missing, or all of them out of order and twice."""
    with updating(tmp_path, report) as (_, operator):
        bundle = make_bundle(tmp_path, "1.1.0", padding=5_000)
        other = make_bundle(tmp_path, "1.2.0", padding=5_000)
        good = operator.part(bundle, chunk_bytes=PIECE_BYTES)
        root = f"edge/bundles/{good['sha256']}"
        wish = operator.wish(bundle=good, shadow={"readings": 0, "minutes": 0}, probation={"readings": 0, "minutes": 0})
        content = bundle.read_bytes()
        pieces = [content[start : start + PIECE_BYTES] for start in range(0, len(content), PIECE_BYTES)]
        wrong = {
            "flipped": bytes([pieces[1][0] ^ 1]) + pieces[1][1:],
            "truncated": pieces[1][:-1],
            "foreign": other.read_bytes()[PIECE_BYTES : 2 * PIECE_BYTES],
        }.get(how, pieces[1])
        order = [*enumerate(pieces)] if how != "again" else [*reversed([*enumerate(pieces)])] * 2
        for number, piece in order:
            if number != 1 or how != "missing":
                operator.publish(f"{root}/{number}", wrong if number == 1 else piece)
        operator.send(wish)
        if how in ("flipped", "foreign"):
            told = operator.wait_state("refused")
            assert "SHA-256" in told["reason"]
        elif how in ("truncated", "missing"):
            told = operator.wait_state("waiting")
            assert "piece 1" in told["reason"]
            operator.publish(f"{root}/1", pieces[1])
            told = wait_final(operator, wish)
        else:
            told = wait_final(operator, wish)
        report(end=told["state"], reason=told["reason"] or "-")
        assert told["running"]["version"] == ("1.0.0" if how in ("flipped", "foreign") else "1.1.0")
        left = [file.suffix for file in (tmp_path / "state" / "updates").rglob("*.*") if file.suffix != ".json"]
        assert left == ([] if told["state"] == "refused" else [".edge"])


def test_a_bundle_of_another_key(tmp_path: Path, report: Report) -> None:
    """A wish with a good signature for a bundle that another key has signed: it is never opened."""
    with updating(tmp_path, report) as (_, operator):
        path = make_bundle(tmp_path, "1.1.0")
        content = path.read_bytes()
        stolen = tmp_path / "stolen.edge"
        sign_bundle(write_bundle(stolen, changes={"version": "1.1.0"}), SigningKey.generate())
        assert content != stolen.read_bytes()
        operator.deploy(stolen)
        told = operator.wait_state("refused")
        report(reason=told["reason"].partition(": ")[2])
        assert "signature" in told["reason"]


def test_disk_full_in_an_update(tmp_path: Path, report: Report) -> None:
    """No room for the bundle, then room again: the old model goes on, it is told, and the update comes to its end."""
    with updating(tmp_path, report) as (at, operator):
        at.agent.limit_files(400_000)
        wish = operator.deploy(make_bundle(tmp_path, "1.1.0", padding=1_000_000))
        told = operator.wait_state("waiting")
        assert "cannot be written" in told["reason"]
        at.agent.limit_files(None)
        ended = wait_final(operator, wish)
        report(told=told["reason"], end=ended["state"])
        assert ended["state"] == "settled"


def test_clock_wrong_in_an_update(tmp_path: Path, report: Report) -> None:
    """A clock a year behind, so that no expiry can be judged: the update waits, and goes on once it is right."""
    behind = tmp_path / "behind"
    behind.write_text("-31536000")
    with updating(tmp_path, report, command=hooked(f"clock={behind}")) as (_, operator):
        wish = operator.deploy(make_bundle(tmp_path, "1.1.0"))
        told = operator.wait_state("waiting")
        assert "clock" in told["reason"]
        behind.with_suffix(".new").write_text("0")
        behind.with_suffix(".new").replace(behind)
        ended = wait_final(operator, wish)
        report(told=told["reason"], end=ended["state"])
        assert ended["state"] == "settled"


@pytest.mark.parametrize("where", ["shadow", "probation"])
def test_a_model_that_is_slow(tmp_path: Path, report: Report, where: str) -> None:
    """A model of fifty times the old one's time: refused in the shadow, and without one rolled back."""
    # So slow that a machine with other work, on which the old one takes ten times as long, does not hide it.
    with updating(tmp_path, report, rate_hz=20, another_model=True) as (_, operator):
        bundle = make_bundle(tmp_path, "1.1.0", model=slow_model(window=Plan(readings=0).window, layers=20))
        minutes = 1.0 if where == "shadow" else 0.0
        wish = operator.deploy(bundle, shadow=(100, minutes) if minutes else (0, 0.0), probation=(10_000, 1.0))
        told = wait_final(operator, wish)
        report(end=told["state"], reason=told["reason"])
        assert told["state"] == ("refused" if where == "shadow" else "rolled_back"), told
        assert "a batch takes" in told["reason"]


def test_a_model_that_ends_the_agent(tmp_path: Path, report: Report) -> None:
    """A model right in each child that tries it, and the end of the agent's own process: gone at the next start."""
    library = Marking(tmp_path, aborts=True)
    allowed = f'[[engine.custom_ops]]\npath = "{library.path}"\nsha256 = "{library.sha256}"'
    with updating(tmp_path, report, engine=allowed) as (at, operator):
        bundle = make_bundle(tmp_path, "1.1.0", changes={"custom_ops": [entry(library)]})
        wish = operator.deploy(bundle, shadow=(50, 0.02), probation=(1000, 1.0))
        assert at.agent.process is not None
        code = at.agent.process.wait(60)
        at.agent.start()  # as its service manager does
        told = wait_final(operator, wish)
        report(exit_code=code, end=told["state"])
        assert code < 0
        assert told["state"] == "rolled_back"
        assert open_bundle(tmp_path / "square-1.0.0.edge").manifest.version == told["running"]["version"]


def test_a_bundle_from_a_url(tmp_path: Path, report: Report) -> None:
    """The hash decides, not the place: a bundle from a web server settles, another file under its name is refused."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    folder = tmp_path / "web"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *of: Quiet(*of, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with updating(tmp_path, report) as (_, operator):
            for version, is_good in (("1.1.0", False), ("1.2.0", True)):
                bundle = make_bundle(tmp_path, version)
                content = bundle.read_bytes()
                (folder / bundle.name).write_bytes(content if is_good else content[:-1] + b"x")
                part = operator.part(bundle, url=f"http://127.0.0.1:{server.server_port}/{bundle.name}")
                shadow = probation = {"readings": 0, "minutes": 0}
                wish = operator.wish(bundle=part, shadow=shadow, probation=probation)
                operator.send(wish)
                told = wait_final(operator, wish)
                assert told["state"] == ("settled" if is_good else "refused")
    finally:
        server.shutdown()
        server.server_close()
    report(end=told["state"])


def test_what_cannot_be_read_on_the_disk(tmp_path: Path, report: Report) -> None:
    """The document of the updates damaged: the configured bundle runs, and it is told."""
    with updating(tmp_path, report) as (at, operator):
        wait_final(operator, operator.deploy(make_bundle(tmp_path, "1.1.0")))
        at.agent.stop()
        store = Store(tmp_path / "state", at.plan.stream)
        (file,) = (tmp_path / "state" / "updates").rglob("standing.json")
        file.write_bytes(file.read_bytes()[:-20])
        assert store.load().active is None
        at.agent.start()
        wait_until(lambda: operator.now["running"]["version"] == "1.0.0")
        report(told="not known any more")
        assert "not known any more" in at.agent.log.read_text()


@pytest.mark.timeout(600)
def test_an_update_behind_other_brokers(tmp_path: Path, report: Report, broker_name: str) -> None:
    """A bundle over brokers that plants run, one of which gives nothing retained to filters; also to a device away."""
    key = public_file(tmp_path / "plant.pub", KEY)
    bundle = make_bundle(tmp_path, "1.0.0")
    with broker_named(broker_name, tmp_path / "broker") as broker, Operator(broker.port, KEY) as operator:
        config = write_config(tmp_path, broker.port, {"pump": bundle}, extra=f'[trust]\nkeys = ["{key}"]')
        agent = Agent(config)
        with agent:
            wait_until(lambda: operator.now, 60, "the agent to tell of its updates")
            wish = operator.deploy(make_bundle(tmp_path, "1.1.0", padding=250_000))
            first = wait_final(operator, wish)
            agent.stop()
            wish = operator.deploy(make_bundle(tmp_path, "1.2.0"))
            agent.start()
            second = wait_final(operator, wish)
    report(ends=[first["state"], second["state"]], runs=second["running"]["version"])
    assert second["running"]["version"] == "1.2.0"
