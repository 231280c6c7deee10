"""An update between its steps: what is left on the disk, what has an end, and what a start makes of a full disk."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import JudgedStream, write_bundle
from nacl.signing import SigningKey
from operators import Operator, public_file, sign_bundle

from edge_agent.bundle import open_bundle
from edge_agent.config.load import load_config
from edge_agent.config.settings import Config
from edge_agent.messages.update import State
from edge_agent.trust import Keys, PublicKey
from edge_agent.update.beginning import Beginning
from edge_agent.update.comparison import Deeds
from edge_agent.update.effective import update_remarks, with_updates
from edge_agent.update.steps import StreamUpdate
from edge_agent.update.store import Answer, Baseline, BundleFile, Probation, Standing, Store
from edge_agent.update.wishes import BundlePart, Kind, LimitsPart, ProbationPart, Wish

KEY = SigningKey.generate()
OLD, BAD, NEW = (BundleFile(sha256=digit * 64, name="pump", version=f"{digit}.0.0") for digit in "123")
HOUR = ("2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z")


def wish(sequence: int, of: BundleFile | None = NEW, **more: Any) -> Wish:
    part = None if of is None else BundlePart(sha256=of.sha256, size_bytes=9_000, name=of.name, version=of.version)
    common = {"agent": "g1", "stream": "pump", "kind": Kind.BUNDLE, "issued": HOUR[0], "expires": HOUR[1]}
    return Wish(**{**common, "sequence": sequence, "bundle": part, **more})


def stream_update(folder: Path, standing: Standing, *, live: JudgedStream | None = None) -> StreamUpdate:
    """Of a stream whose configured bundle is gone."""
    store = Store(folder, "pump")
    store.save(standing)
    config = SimpleNamespace(
        updates=SimpleNamespace(max_mb=50.0, health_command=[], health_limit_s=1.0),
        agent=SimpleNamespace(id="g1"),
    )
    about: Any = SimpleNamespace(
        section=SimpleNamespace(name="pump"),
        configured_section=SimpleNamespace(bundle=str(folder / "gone.edge")),
        config=config,
        configured=OLD,
        running=standing.active or OLD,
        keys=Keys([PublicKey(KEY.verify_key.encode())]),
        wake=lambda: None,
    )
    return StreamUpdate(about, store, live or JudgedStream())


def on_trial(**more: Any) -> Standing:
    probation = Probation(wanted=ProbationPart(), limits=LimitsPart(), baseline=Baseline())
    return Standing(active=BAD, wanted=BAD, state=State.PROBATION, probation=probation, is_running=True, **more)


def test_what_is_wished_for_no_more_is_left_nowhere(tmp_path: Path) -> None:
    """Not the pieces of a wish that another one has replaced, nor a bundle that was rolled back."""
    store = Store(tmp_path, "pump")
    update = stream_update(tmp_path, Standing(active=OLD, former=None, wanted=BAD, state=State.ROLLED_BACK))
    for path in (store.path(OLD.sha256), store.path(BAD.sha256)):
        path.write_bytes(b"")
    update.obey(wish(1), "{}")
    store.part(NEW.sha256).write_bytes(b"piece")
    assert not store.path(BAD.sha256).exists()
    update.obey(wish(2), "{}")
    assert store.part(NEW.sha256).exists(), "the same bundle goes on where it was"
    update.obey(wish(3, None, cancel=False, rollback=True), "{}")
    assert [*tmp_path.rglob("*.part"), *tmp_path.rglob("*.edge")] == [store.path(OLD.sha256)]
    update.close()


def test_what_should_go_back_and_cannot_is_told_as_an_end_of_its_own(tmp_path: Path) -> None:
    """Nobody waits for it, a wish that waited for the judgement is obeyed, and a crash later says nothing of it."""
    live = JudgedStream()
    update = stream_update(tmp_path, on_trial(), live=live)
    update.obey(wish(5), "{}")
    assert update.state is State.PROBATION, "what is judged is decided first"
    live.now = Deeds(scored=10, not_finite=3)
    update.tick(time.monotonic() + 5)
    told = update.describe()
    assert told["state"] == "fetching"
    assert told["bundle"]["version"] == NEW.version
    known = Store(tmp_path, "pump").load()
    assert (known.active, known.is_running, known.probation) == (BAD, False, None)
    update.close()
    other = stream_update(tmp_path / "other", on_trial(), live=live)
    other.tick(time.monotonic() + 5)
    assert (told := other.describe())["state"] == "kept"
    assert "cannot run" in told["reason"]
    other.obey(wish(6), "{}")
    assert other.describe()["state"] == "fetching"
    other.close()


def test_an_end_and_an_answer_are_told_once_the_disk_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is killed before would go on with what an operator was told to have been given up."""
    update = stream_update(tmp_path, Standing())
    update.obey(wish(1), "{}")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("edge_agent.update.store.write_file", full)
        update.obey(wish(2, None, cancel=True), "{}")
        update.answer(wish(3, None, kind=Kind.RECOMMISSION), "applied", "all assets")
        told = update.describe()
        assert (told["sequence"], told["state"], told["reason"]) == (1, "fetching", "given up, once the disk takes it")
        assert "recommission" not in told
        assert Store(tmp_path, "pump").load().state is State.FETCHING
    changes = update.changes
    update.tick(time.monotonic() + 60)
    assert update.changes > changes, "so that it is told"
    told = update.describe()
    assert (told["sequence"], told["state"], told["recommission"]["state"]) == (2, "given_up", "applied")
    update.close()


def test_an_agent_about_to_start_anew_leaves_wishes_to_the_next_run(tmp_path: Path) -> None:
    """Else a wish in that moment would replace the trial of a bundle that nobody has tried."""
    update = stream_update(tmp_path, Standing(active=BAD, wanted=BAD, state=State.SWITCHED))
    update.is_due = True
    update.obey(wish(7), "{}")
    assert update.last(Kind.BUNDLE) is None
    assert Store(tmp_path, "pump").load().state is not State.FETCHING
    update.close()


def configured(folder: Path) -> Config:
    bundle = sign_bundle(write_bundle(folder / "square-1.0.0.edge"), KEY)
    key = public_file(folder / "plant.pub", KEY)
    text = f'[agent]\nid = "g1"\nstate_dir = "{folder}/state"\n[trust]\nkeys = ["{key}"]\n'
    text += f'[[stream]]\nname = "pump"\nbundle = "{bundle}"\ntopic = "sensors/+/pump"\n'
    (folder / "agent.toml").write_text(text)
    return load_config(folder / "agent.toml")


def test_a_bundle_on_probation_does_not_run_without_its_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk one that ends the agent would end it at each start. And what is known then is what runs."""
    config = configured(tmp_path)
    store = Store(tmp_path / "state", "pump")
    store.save(Standing(active=BAD, wanted=BAD, state=State.SWITCHED))
    store.path(BAD.sha256).write_bytes(b"")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    beginning = Beginning(config)
    with monkeypatch.context() as patch:
        patch.setattr("edge_agent.update.store.write_file", full)
        running = beginning.take_up()
        assert running.streams[0].bundle == config.streams[0].bundle
        begun = beginning.begun(running, [open_bundle(Path(running.streams[0].bundle))])
        assert begun is not None
        mine = begun.stores["pump"]
        assert (mine.is_unsaved, mine.load().state) == (True, State.ROLLED_BACK)
        assert Store(tmp_path / "state", "pump").load().state is State.SWITCHED
    live = JudgedStream()
    update = stream_update(tmp_path / "other", Standing())
    about = update._about
    update.close()
    again = StreamUpdate(about, mine, live)
    assert again.state is State.ROLLED_BACK
    again.tick(time.monotonic() + 60)
    assert Store(tmp_path / "state", "pump").load().state is State.ROLLED_BACK, "once the disk has room"
    again.close()


def test_settings_that_do_not_go_with_the_file_any_more_keep_no_agent_from_starting(tmp_path: Path) -> None:
    """They are left out and told; the file is the device's own word."""
    config = configured(tmp_path)
    store = Store(tmp_path / "state", "pump")
    answer = Answer(sequence=5, state="applied", reason="alarm", time=HOUR[0])
    settings = {"alarm": {"of": 5}, "silent_s": 60.0}
    store.save(Standing(**Operator(0, KEY).brought(settings), answers={"settings": answer}))
    assert with_updates(config).streams[0].silent_s == 60
    assert update_remarks(config) == []
    with (tmp_path / "agent.toml").open("a") as file:
        file.write("[stream.alarm]\nof = 6\nconfirm = 6\n")
    edited = load_config(tmp_path / "agent.toml")
    (remark,) = update_remarks(edited)
    assert "are left out: " in remark
    assert "confirm = 6: must not be above of = 5" in remark
    (running,) = Beginning(edited).take_up().streams
    assert (running.alarm.of, running.silent_s) == (6, 0)
    known = store.load()
    assert (known.settings, known.answers["settings"].state) == ({}, "refused")
    assert update_remarks(edited) == []


def test_of_two_clocks_that_disagree_both_are_told(tmp_path: Path) -> None:
    """Nobody knows which one is wrong: an operator's may be ahead as well as a device's behind."""
    update = stream_update(tmp_path, Standing())
    update.obey(wish(1, issued="2098-12-31T10:00:00Z"), "{}")
    told = update.describe()
    assert told["state"] == "waiting"
    assert (
        "h UTC, and by the operator's clock, the wish was made at 2098-12-31T10:00:00Z: one of them" in told["reason"]
    )
    update.close()


def test_what_waits_makes_way_for_nothing_older(tmp_path: Path) -> None:
    """Whoever may only write to the broker can send recorded wishes, in any order and as often as it likes."""
    live = JudgedStream()
    update = stream_update(tmp_path, on_trial(sequences={Kind.BUNDLE: 17}), live=live)
    update.obey(wish(20), "{}")
    update.obey(wish(19, OLD), "{}")
    assert update.last(Kind.BUNDLE) == 20
    live.now = Deeds(scored=10, not_finite=3)
    update.tick(time.monotonic() + 5)
    told = update.describe()
    assert (told["sequence"], told["bundle"]["version"]) == (20, NEW.version)
    update.close()


def test_what_has_expired_while_something_was_judged_is_not_done(tmp_path: Path) -> None:
    """A way back that was wished for an hour ago may be one that nobody wants any more."""
    store = Store(tmp_path, "pump")
    live = JudgedStream()
    update = stream_update(tmp_path, on_trial(), live=live)
    update.obey(wish(20, None, rollback=True, expires=HOUR[0]), "{}")
    live.now = Deeds(scored=10, not_finite=3)
    update.tick(time.monotonic() + 5)
    told = update.describe()
    assert (told["state"], told["running"]["version"]) == ("given_up", BAD.version)
    assert "expired" in told["reason"]
    assert store.load().active == BAD
    update.close()


def test_a_wish_in_place_of_another_at_the_same_step_is_told_and_kept(tmp_path: Path) -> None:
    """Both are being fetched: who waits for an answer to the second hears that it is, also after a crash."""
    update = stream_update(tmp_path, Standing())
    update.obey(wish(1, BAD), "{}")
    before = update.changes
    update.obey(wish(2), "{}")
    told = update.describe()
    assert update.changes > before
    assert (told["sequence"], [step["state"] for step in told["steps"]]) == (2, ["fetching"])
    assert Store(tmp_path, "pump").load().wanted == NEW
    update.close()


@pytest.mark.parametrize(("key", "state"), [(KEY, "fetching"), (SigningKey.generate(), "given_up")])
def test_a_wish_counts_for_as_long_as_its_key(key: SigningKey, state: str, tmp_path: Path) -> None:
    """A key that was taken off the list while its update was under way brings nothing any more."""
    operator = Operator(0, key)
    part = {"sha256": NEW.sha256, "size_bytes": 9_000, "name": NEW.name, "version": NEW.version}
    message = operator.envelope(operator.wish(bundle=part)).decode()
    update = stream_update(tmp_path, Standing(wish=message, wanted=NEW, state=State.FETCHING))
    assert update.describe()["state"] == state
    update.close()


def test_a_reason_has_an_end(tmp_path: Path) -> None:
    """Of thousands of mistakes in one wish, all would be more than a broker takes, and than is read of the disk."""
    update = stream_update(tmp_path, Standing())
    update.answer(wish(1, kind=Kind.SETTINGS), "refused", "x" * (1 << 21))
    assert len(Store(tmp_path, "pump").load().answers["settings"].reason) == 2_001
    update.close()


def test_the_highest_version_stays_the_highest() -> None:
    """To go back is the operator's own act, and lets nothing else in that is older."""
    standing = Standing()
    for version in ("1.2.0", "1.0.0", "1.2.0-rc.1"):
        standing.note_highest(BundleFile(sha256=NEW.sha256, name="pump", version=version))
    standing.note_highest(OLD)
    assert {name: each.version for name, each in standing.highest.items()} == {"pump": "1.2.0"}
    newer = BundleFile(sha256=OLD.sha256, name="pump", version="1.2.1")
    standing.note_highest(newer)
    assert (standing.highest["pump"].version, standing.highest["pump"].sha256) == ("1.2.1", OLD.sha256)


def test_each_piece_is_something_to_tell(tmp_path: Path) -> None:
    """Over a thin line a bundle may take an hour, in which who waits sees how far it is."""
    update = stream_update(tmp_path, Standing())
    part = BundlePart(sha256=NEW.sha256, size_bytes=9_000, chunk_bytes=1_000, name=NEW.name, version=NEW.version)
    update.obey(wish(1, bundle=part), "{}")
    update.tick(time.monotonic())
    before = update.changes
    update.piece(NEW.sha256, 0, b"x" * 1_000)
    assert update.changes > before
    assert update.describe()["progress"] == {"chunks": 1, "of": 9}
    update.close()
