"""The pure parts of an update: wishes, what a new model may not do, pieces, and what the disk has."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from fakes import JudgedStream, write_bundle
from nacl.signing import SigningKey
from operators import Operator, public_file, sign_bundle

from edge_agent.config.load import load_config
from edge_agent.config.settings import Config
from edge_agent.errors import ConfigError
from edge_agent.files.checksum import file_hash
from edge_agent.messages.scores import Scores
from edge_agent.messages.update import State
from edge_agent.stream.outcome import WindowBatch
from edge_agent.stream.recent import RecentScores
from edge_agent.update.beginning import Beginning
from edge_agent.update.comparison import Deeds, comparison_of, problem_with_deeds
from edge_agent.update.effective import update_remarks, with_settings, with_updates
from edge_agent.update.fetching import Fetch
from edge_agent.update.health_command import HealthCommand
from edge_agent.update.ledger import Ledger
from edge_agent.update.probation import Trial
from edge_agent.update.proving import problem_with_file
from edge_agent.update.steps import StreamUpdate
from edge_agent.update.store import Answer, Baseline, BundleFile, Probation, Standing, Store
from edge_agent.update.wishes import (
    BundlePart,
    Kind,
    LimitsPart,
    ProbationPart,
    Wish,
    problem_with,
    problem_with_version,
    read_wish_text,
    waits_for_clock,
)

NOW_S = 1_796_000_000.0
KEY = SigningKey.generate()
ISSUED, EXPIRES = "2026-11-29T22:00:00Z", "2026-11-30T22:00:00Z"


def wish(**changes: Any) -> Wish:
    part = BundlePart(sha256="a" * 64, size_bytes=1000, name="pump", version="1.1.0")
    common = {"agent": "g1", "stream": "pump", "kind": Kind.BUNDLE, "sequence": 7, "issued": ISSUED, "expires": EXPIRES}
    return Wish(**{**common, "bundle": part, **changes})


def problem(found: Wish, *, last: int | None = None, now_s: float = NOW_S) -> str | None:
    return problem_with(found, agent="g1", stream="pump", kind=Kind.BUNDLE, last=last, now_s=now_s)


def test_a_wish_says_nothing_to_others_nor_later() -> None:
    """To another agent, on another topic, in an old sequence, or after its time."""
    assert problem(wish()) is None
    assert problem(wish(), last=7) is None, "the same wish, heard again"
    assert "signed for" in (problem(wish(agent="g2")) or "")
    assert "signed for" in (problem(wish(stream="fan")) or "")
    assert "signed for" in (problem(wish(kind=Kind.SETTINGS)) or "")
    assert "below 8" in (problem(wish(), last=8) or "")
    assert "expired" in (problem(wish(), now_s=NOW_S + 7 * 86400) or "")


@pytest.mark.parametrize("more", [{}, {"bundle": None, "cancel": True}, {"issued": "9999-01-01T00:00:00Z"}])
def test_a_wish_leaves_numbers_for_those_that_follow(more: dict[str, Any]) -> None:
    """Nobody could take the stream's updates up again after the highest number: a century ahead is the most."""
    for sequence in ((1 << 62) - 1, 10**13):
        assert "would leave no higher" in (problem(wish(sequence=sequence, **more)) or "")
    assert problem(wish(sequence=int((NOW_S + 99 * 366 * 86400) * 1000))) is None
    assert problem(wish(sequence=int(NOW_S * 1000)), now_s=0.0) is None, "a clock that has not been set yet"


def test_a_clock_that_is_behind_can_judge_no_expiry() -> None:
    """Five minutes are no reason to wait."""
    assert waits_for_clock(wish(), 0.0)
    assert waits_for_clock(wish(), NOW_S - 86400)
    assert waits_for_clock(wish(bundle=None, rollback=True), 0.0)
    assert not waits_for_clock(wish(bundle=None, cancel=True), 0.0), "what was wished before is taken back at any time"
    assert not waits_for_clock(wish(), wish().issued_s - 200)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"\xff",
        b'{"agent": "g1"}',
        msgspec.json.encode({**msgspec.to_builtins(wish()), "issued": "yesterday"}),
        msgspec.json.encode({**msgspec.to_builtins(wish()), "sequence": -1}),
        msgspec.json.encode({**msgspec.to_builtins(wish()), "bundle": None}),
        msgspec.json.encode({**msgspec.to_builtins(wish()), "bundle": {"sha256": "../x", "size_bytes": 1}}),
        msgspec.json.encode({**msgspec.to_builtins(wish()), "shadow": {"minutes": -1}}),
        msgspec.json.encode(wish()).replace(b'"size_bytes":1000', b'"size_bytes":1' + b"0" * 400),
        msgspec.json.encode(
            {
                **msgspec.to_builtins(wish()),
                "bundle": {**msgspec.to_builtins(wish())["bundle"], "url": "file:///etc/passwd"},
            }
        ),
    ],
)
def test_what_is_no_wish(text: bytes) -> None:
    """Though its signature may be good: a value that cannot be meant is not guessed at."""
    with pytest.raises(ValueError, match=r".+"):
        read_wish_text(text)


def test_a_wish_may_have_keys_of_a_later_version() -> None:
    """They are ignored."""
    found = read_wish_text(msgspec.json.encode({**msgspec.to_builtins(wish()), "colour": "blue"}))
    assert found == wish()


@pytest.mark.parametrize(
    ("version", "floors", "rollback", "is_good"),
    [
        ("1.1.0", ["1.0.0"], False, True),
        ("1.0.0", ["1.0.0"], False, False),
        ("1.0.0", ["1.0.0"], True, True),
        ("1.1.0-rc.1", ["1.1.0"], False, False),
        ("1.10.0", ["1.9.0"], False, True),
        ("1.1.0", ["1.0.0", "1.2.0"], False, False),
        ("1.1.0", ["yesterday"], False, True),
        ("yesterday", [], False, False),
    ],
)
def test_versions_only_grow(version: str, floors: list[str], rollback: bool, is_good: bool) -> None:
    """By semver.org, above all that have run here, unless an older one is meant."""
    found = wish(rollback=rollback)
    assert found.bundle is not None
    part = msgspec.structs.replace(found.bundle, version=version)
    assert (problem_with_version(found, part, floors=floors, max_mb=0) is None) is is_good


def test_a_bundle_may_be_too_large() -> None:
    """By the device's own bound, in units of 1,000,000 bytes."""
    part = BundlePart(sha256="a" * 64, size_bytes=2_000_001, name="pump", version="1.1.0")
    assert "max_mb = 2" in (problem_with_version(wish(), part, floors=[], max_mb=2) or "")
    assert problem_with_version(wish(), part, floors=[], max_mb=3) is None


LIMITS = LimitsPart()


@pytest.mark.parametrize(
    ("new", "old", "word"),
    [
        (Deeds(scored=100), Baseline(scored=100), None),
        (Deeds(scored=100, not_finite=1), Baseline(), "no number"),
        (Deeds(scored=100, raised=3), Baseline(scored=100), None),
        (Deeds(scored=100, raised=4), Baseline(scored=100), "alerts"),
        (Deeds(scored=1000, raised=33), Baseline(scored=1000, raised=10), None),
        (Deeds(scored=1000, raised=34), Baseline(scored=1000, raised=10), "alerts"),
        # For as many windows: the old rate, not the old count.
        (Deeds(scored=10_000, raised=300), Baseline(scored=1000, raised=10), None),
        (Deeds(batch_us=5000, timed=4), Baseline(batch_us=100), None),
        (Deeds(batch_us=5000, timed=5), Baseline(batch_us=100), "batch takes"),
        (Deeds(batch_us=790, timed=50), Baseline(batch_us=100), None),
        (Deeds(batch_us=5000, timed=50), Baseline(), None),
        (Deeds(drifts=True), Baseline(), "drift"),
        (Deeds(is_blind=True), Baseline(), "none of them could be scored"),
        # One alert that never ends, on one machine: all of its windows are at the limit.
        (Deeds(scored=1000, raised=1, at_limit=1000), Baseline(scored=1000), "reached the limit"),
        (Deeds(scored=1000, raised=1, at_limit=50), Baseline(scored=1000), None),
        (Deeds(scored=1000, raised=1, at_limit=51), Baseline(scored=1000), "reached the limit"),
        (Deeds(scored=1000, at_limit=600), Baseline(scored=1000, at_limit=300), None),
    ],
)
def test_what_a_new_model_may_not_do(new: Deeds, old: Baseline, word: str | None) -> None:
    """Scores that are no number, three times the alerts and three more, three times the time and half a millisecond."""
    found = problem_with_deeds(new, old, LIMITS)
    assert (found is None) if word is None else word in (found or "")


def test_what_two_models_did_is_told_with_who_alone_raised() -> None:
    """By the names of assets, a few of them."""
    new = Deeds(scored=9, raised=2, assets=["a1", "a2"], quantiles=[1.0, 2.0, 3.0])
    told = comparison_of(new, Deeds(scored=9, raised=1, assets=["a2", "a3"]))
    assert told["assets_only_by_new"] == ["a1"]
    assert told["assets_only_by_old"] == ["a3"]
    assert told["new"]["scores"] == {"median": 1.0, "p99": 2.0, "highest": 3.0}
    assert told["old"]["scores"] == {}


def test_the_last_scores_are_kept_and_what_is_no_number_left_out() -> None:
    """In a ring of 4,096, also where a batch is longer than it."""
    recent = RecentScores()
    assert recent.quantiles() == []
    none = WindowBatch(np.zeros((0, 1, 1), np.float32), [], [])
    for batch in ([1.0, float("nan")], [2.0] * 5000, [3.0]):
        recent.add(none, Scores(np.array(batch, np.float32), None))
    assert recent.quantiles() == [2.0, 2.0, 3.0]


def test_pieces_go_on_where_they_were(tmp_path: Path) -> None:
    """What is no whole piece is cut off, and the last one may be shorter."""
    content = bytes(range(256)) * 10
    part = BundlePart(sha256="a" * 64, size_bytes=len(content), chunk_bytes=1000, name="pump", version="1.1.0")
    path = tmp_path / "x.part"
    path.write_bytes(content[:1500])
    fetch = Fetch(path, part)
    assert fetch.next == 1
    assert not fetch.takes(content[1000:1999])
    assert fetch.takes(content[1000:2000])
    fetch.add(content[1000:2000])
    fetch.close()
    fetch = Fetch(path, part)
    assert (fetch.next, fetch.is_whole) == (2, False)
    assert fetch.takes(content[2000:])
    fetch.add(content[2000:])
    assert fetch.is_whole
    fetch.close()
    assert path.read_bytes() == content
    assert Fetch(path, part).is_whole
    path.write_bytes(content + b"more")
    assert Fetch(path, part).next == 2


def test_a_piece_file_that_is_a_link_is_not_written(tmp_path: Path) -> None:
    """Whoever may have put it there."""
    (tmp_path / "x.part").symlink_to(tmp_path / "elsewhere")
    part = BundlePart(sha256="a" * 64, size_bytes=10, chunk_bytes=1000, name="pump", version="1.1.0")
    with pytest.raises(OSError, match=r".+"):
        Fetch(tmp_path / "x.part", part)


def test_the_ledger_is_whole_or_told_to_be_unknown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bit that changed is no other standing; and what the disk does not take is tried again."""
    store = Store(tmp_path, "..")
    ledger = Ledger(store, "..")
    ledger.note(State.FETCHING)
    ledger.note(State.FETCHING)
    assert [step.state for step in store.load().steps] == [State.FETCHING]
    (file,) = tmp_path.rglob("standing.json")
    assert tmp_path in file.parents
    content = file.read_bytes()
    file.write_bytes(content.replace(b"fetching", b"settling"))
    assert store.load() == Standing()
    assert "not known any more" in caplog.text
    file.parent.rename(file.parent.with_name("away"))
    file.parent.write_text("no folder")
    assert not ledger.save()
    file.parent.unlink()
    ledger.tend(time.monotonic() + 60)
    assert store.load().state is State.FETCHING


def test_a_switch_that_the_disk_does_not_take_has_changed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither which bundle runs, nor the one before it, nor the version that may only grow."""
    one, two, three = (BundleFile(sha256=digit * 64, name="pump", version=f"{digit}.0.0") for digit in "123")
    store = Store(tmp_path, "pump")
    store.save(Standing(active=two, former=one, wanted=three))
    about: Any = SimpleNamespace(section=SimpleNamespace(name="pump"), configured=one, running=two, keys=None)
    update = StreamUpdate(about, store, JudgedStream())
    update._wish = wish()

    def full(_standing: Standing) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "save", full)
    update._switch(Baseline())
    standing = update._standing
    assert (standing.active, standing.former, standing.highest, update.is_due) == (two, one, {}, False)
    assert standing.state is State.WAITING


def test_probation_counts_over_restarts() -> None:
    """Windows and minutes of all runs; both have to be reached."""
    wanted = ProbationPart(readings=100, minutes=1.0)
    probation = Probation(wanted=wanted, limits=LIMITS, baseline=Baseline())
    for _ in range(2):
        live = JudgedStream()
        trial = Trial(probation, live, HealthCommand((), 1.0))
        for scored in (30, 50):
            live.now.scored = scored
            assert trial.look(0.0, 10.0) is None
    assert (probation.scored, probation.seconds, trial.is_over) == (100, 40.0, False)
    assert trial.look(0.0, 20.0) is None
    assert trial.is_over


def test_a_drift_of_the_old_model_says_nothing_of_the_new_one() -> None:
    """Its alert is open as the new model begins, and counts again only after it was cleared."""
    live = JudgedStream()
    live.now.drifts = True
    probation = Probation(wanted=ProbationPart(), limits=LIMITS, baseline=Baseline())
    trial = Trial(probation, live, HealthCommand((), 1.0))
    assert trial.look(0.0, 1.0) is None
    live.now.drifts = False
    assert trial.look(1.0, 1.0) is None
    live.now.drifts = True
    assert "drift" in (trial.look(2.0, 1.0) or "")


@pytest.mark.parametrize(
    ("code", "limit_s", "word"),
    [
        ("pass", 10, None),
        ("raise SystemExit(3)", 10, "ended with 3"),
        ("import time; time.sleep(60)", 0.2, "did not end"),
    ],
)
def test_the_health_command(code: str, limit_s: float, word: str | None) -> None:
    """Its exit code decides, and it has a time to end in."""
    health = HealthCommand([sys.executable, "-c", code], limit_s, interval_s=0.1)
    found, end = None, time.monotonic() + 20
    while found is None and time.monotonic() < end and health.runs < 2:
        found = health.tick(time.monotonic())
        time.sleep(0.01)
    health.close()
    assert (found is None) if word is None else word in (found or "")
    assert "cannot be started" in (HealthCommand(["/no/such"], 1.0).tick(1.0) or "")


def configured(folder: Path, *, trusts: bool = True) -> Config:
    bundle = sign_bundle(write_bundle(folder / "square-1.0.0.edge"), KEY)
    key = public_file(folder / "plant.pub", KEY)
    text = f'[agent]\nid = "g1"\nstate_dir = "{folder}/state"\n[mqtt]\nhost = "127.0.0.1"\n'
    text += f'[trust]\nkeys = ["{key}"]\n' if trusts else ""
    text += f'[[stream]]\nname = "pump"\nbundle = "{bundle}"\ntopic = "sensors/+/pump"\n'
    text += "[stream.alarm]\nconfirm = 2\nof = 4\n"
    (folder / "agent.toml").write_text(text)
    return load_config(folder / "agent.toml")


def test_what_came_takes_the_place_of_the_file_until_that_is_another_one(tmp_path: Path) -> None:
    """A bundle that somebody puts on the device is the last word; without [trust], nothing that came counts."""
    config = configured(tmp_path)
    (section,) = config.streams
    store = Store(tmp_path / "state", "pump")
    active = BundleFile(sha256="b" * 64, name="square", version="1.1.0")
    here = BundleFile(sha256=file_hash(Path(section.bundle)), name="square", version="1.0.0")
    store.save(
        Standing(
            active=active, configured=here, state=State.SETTLED, **Operator(0, KEY).brought({"alarm": {"confirm": 3}})
        )
    )
    store.path(active.sha256).write_bytes(b"")
    (found,) = with_updates(config).streams
    assert found.bundle == str(store.path(active.sha256))
    assert (found.alarm.confirm, found.alarm.of) == (3, 4)
    assert with_updates(configured(tmp_path, trusts=False)).streams[0].bundle == section.bundle
    write_bundle(Path(section.bundle), alarm=8.0)
    assert with_updates(config).streams[0].bundle == section.bundle


def test_limits_that_came_are_for_one_model(tmp_path: Path) -> None:
    """They mean nothing for the bundle that follows."""
    config = configured(tmp_path)
    store = Store(tmp_path / "state", "pump")
    limits = {"threshold": {"alarm": 5.0, "clear": 2.0}}
    store.save(Standing(**Operator(0, KEY).brought(limits), threshold_for=file_hash(Path(config.streams[0].bundle))))
    found = with_updates(config).streams[0].threshold
    assert found is not None
    assert (found.alarm, found.clear) == (5.0, 2.0)
    store.save(Standing(**Operator(0, KEY).brought(limits), threshold_for="c" * 64))
    assert with_updates(config).streams[0].threshold is None


def test_settings_hold_for_as_long_as_the_key_that_brought_them(tmp_path: Path) -> None:
    """As bundles do: from the start on that finds the key off the list, `agent.toml` counts, and that is told."""
    config = configured(tmp_path)
    store = Store(tmp_path / "state", "pump")
    answer = Answer(sequence=5, state="applied", reason="silent_s", time=ISSUED)
    came = Operator(0, KEY).brought({"silent_s": 60})
    store.save(Standing(**came, answers={"settings": answer}))
    (tmp_path / "new").mkdir()
    both = public_file(tmp_path / "new" / "plant.pub", SigningKey.generate())
    text = (tmp_path / "agent.toml").read_text()
    (tmp_path / "agent.toml").write_text(text.replace("keys = [", f'keys = ["{both}", '))
    assert Beginning(load_config(tmp_path / "agent.toml")).take_up().streams[0].silent_s == 60, "the old key is there"
    public_file(tmp_path / "plant.pub", SigningKey.generate())
    (remark,) = update_remarks(config)
    assert "settings that came over the broker for stream 'pump' are left out: the wish that brought them" in remark
    assert with_updates(config).streams[0].silent_s == 0
    assert Beginning(config).take_up().streams[0].silent_s == 0
    known = store.load()
    assert (known.settings, known.settings_wish, known.answers["settings"].state) == ({}, "", "refused")
    assert "is not trusted here" in known.answers["settings"].reason
    assert update_remarks(config) == []
    store.save(Standing(settings={"silent_s": 60}))
    assert Beginning(config).take_up().streams[0].silent_s == 0, "nobody has signed them"


def test_a_key_that_cannot_be_read_takes_no_settings_away(tmp_path: Path) -> None:
    """The start fails, as it does for bundles, and the next one finds them as they were."""
    config = configured(tmp_path)
    store = Store(tmp_path / "state", "pump")
    store.save(Standing(**Operator(0, KEY).brought({"silent_s": 60})))
    (tmp_path / "plant.pub").rename(tmp_path / "away.pub")
    with pytest.raises(ConfigError, match=r"plant.pub: cannot be read"):
        Beginning(config).take_up()
    (tmp_path / "away.pub").rename(tmp_path / "plant.pub")
    assert Beginning(config).take_up().streams[0].silent_s == 60


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"topic": "#"}, "cannot be changed"),
        ({"bundle": "/etc/passwd"}, "cannot be changed"),
        ({"alarm": {"confrim": 3}}, "did you mean 'confirm'"),
        ({"alarm": {"confirm": 5}}, "must not be above of = 4"),
        ({"threshold": {"alarm": 1.0, "clear": 2.0}}, "must not be above"),
        ({"threshold": {"alarm": 1.0}}, "clear: is missing"),
        ({"silent_s": "soon"}, "silent_s"),
        ({"commission": {"readings": 5}}, "at least 30"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, settings: dict[str, Any], word: str) -> None:
    """As the file would be, with the same words."""
    (section,) = configured(tmp_path).streams
    with pytest.raises(ConfigError, match=r".+") as caught:
        with_settings(section, settings)
    assert word in str(caught.value)


def test_a_run_that_ended_over_a_bundle_on_probation_has_rolled_it_back(tmp_path: Path) -> None:
    """A mark that is still there is no planned stop; an error of a marked run rolls back, too."""
    config = configured(tmp_path)
    store = Store(tmp_path / "state", "pump")
    active = BundleFile(sha256="b" * 64, name="square", version="1.1.0")
    standing = Standing(active=active, state=State.SWITCHED)
    store.save(standing)
    store.path(active.sha256).write_bytes(b"")
    beginning = Beginning(config)
    assert beginning.take_up().streams[0].bundle == str(store.path(active.sha256))
    assert store.load().is_running
    assert Beginning(config).take_up().streams[0].bundle == config.streams[0].bundle
    assert (store.load().state, store.load().active) == (State.ROLLED_BACK, None)
    assert not Beginning(config).failed("some error"), "nothing is on probation"
    store.save(standing)
    again = Beginning(config)
    again.take_up()
    assert again.failed("the runtime failed")
    assert store.load().reason == "the runtime failed"
    assert Beginning(config).take_up().streams[0].bundle == config.streams[0].bundle


def test_nothing_is_gone_back_to_that_cannot_run(tmp_path: Path) -> None:
    """A bundle that is bad is better than none: it stays, and it is told."""
    config = configured(tmp_path)
    store = Store(tmp_path / "state", "pump")
    active = BundleFile(sha256="b" * 64, name="square", version="1.1.0")
    former = BundleFile(sha256="c" * 64, name="square", version="1.0.5")
    store.save(Standing(active=active, former=former, state=State.PROBATION, is_running=True))
    store.path(active.sha256).write_bytes(b"")
    assert Beginning(config).take_up().streams[0].bundle == config.streams[0].bundle, "the one before is gone"
    store.save(Standing(active=active, state=State.PROBATION, is_running=True))
    Path(config.streams[0].bundle).unlink()
    assert Beginning(config).take_up().streams[0].bundle == str(store.path(active.sha256))
    found = store.load()
    assert (found.state, found.is_running) == (State.KEPT, False)
    assert "cannot run" in found.reason


def test_a_spoilt_bundle_gives_way_to_the_one_before(tmp_path: Path) -> None:
    """Though it had settled: the start that fails over it rolls it back."""
    config = configured(tmp_path)
    store = Store(tmp_path / "state", "pump")
    active = BundleFile(sha256="b" * 64, name="square", version="1.1.0")
    store.save(Standing(active=active, state=State.SETTLED))
    store.path(active.sha256).write_bytes(b"half of it")
    beginning = Beginning(config)
    beginning.take_up()
    assert beginning.failed("no readable bundle")
    assert Beginning(config).take_up().streams[0].bundle == config.streams[0].bundle


def test_what_came_and_does_not_count_any_more_is_told(tmp_path: Path) -> None:
    """Without [trust], or for a stream that has another name now."""
    config = configured(tmp_path)
    for name in ("pump", "fan"):
        active = BundleFile(sha256="b" * 64, name="square", version="1.1.0")
        Store(tmp_path / "state", name).save(Standing(active=active, state=State.SETTLED))
    assert [*map(len, (update_remarks(config), update_remarks(configured(tmp_path, trusts=False))))] == [1, 2]
    assert "no stream of this name" in update_remarks(config)[0]


def test_a_bundle_that_is_gone_from_the_disk_is_not_looked_for(tmp_path: Path) -> None:
    """The one before it runs."""
    config = configured(tmp_path)
    store = Store(tmp_path / "state", "pump")
    store.save(Standing(active=BundleFile(sha256="b" * 64, name="square", version="1.1.0"), state=State.SETTLED))
    assert Beginning(config).take_up().streams[0].bundle == config.streams[0].bundle
    assert "is gone" in store.load().reason


def test_a_pipe_in_place_of_a_bundle_makes_nobody_wait(tmp_path: Path) -> None:
    """Whether the one before can run is asked on the loop's thread."""
    os.mkfifo(tmp_path / "pipe.edge")
    assert "is a pipe, expected a file" in (problem_with_file(tmp_path / "pipe.edge", None) or "")
