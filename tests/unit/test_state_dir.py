"""The state folder is the agent's alone."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest

from edge_agent.agent.state_dir import check_state_dir, is_in_memory, is_in_use, locked_state_dir
from edge_agent.errors import ConfigError


@pytest.fixture
def shared_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our group has other members."""
    monkeypatch.setattr(grp, "getgrgid", lambda _: SimpleNamespace(gr_mem=["somebody"]))


@pytest.fixture
def private_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our group is the one that the system made for us."""
    monkeypatch.setattr(grp, "getgrgid", lambda _: SimpleNamespace(gr_mem=[]))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_gid=os.getgid()))


@pytest.mark.usefixtures("shared_group")
@pytest.mark.parametrize(
    ("mode", "above", "told", "remedy"),
    [
        (0o707, 0o755, "can be written by everybody (mode 0707)", "chmod go-w {state}"),
        (0o1777, 0o755, "can be written by everybody (mode 1777)", "give a folder inside it"),
        (0o770, 0o755, "can be written by group", "chmod go-w {state}"),
        (0o700, 0o777, "can be written by everybody (mode 0777)", "chmod go-w {above}"),
        (0o700, 0o775, "can be written by group", "chmod go-w {above}"),
    ],
)
def test_a_folder_that_others_may_write_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, above: int, told: str, remedy: str
) -> None:
    """Or one that it lies in, because it could be exchanged there; an operator may allow it, and it is told then."""
    state_dir = tmp_path / "above" / "state"
    state_dir.mkdir(parents=True)
    state_dir.chmod(mode)
    state_dir.parent.chmod(above)
    with pytest.raises(ConfigError, match="others can change limits") as refused:
        check_state_dir(state_dir, allow_unsafe=False)
    assert told in str(refused.value)
    remedy = remedy.format(state=state_dir, above=state_dir.parent)
    assert str(refused.value).endswith(f"; {remedy}, or set allow_unsafe_state_dir = true")
    assert not caplog.text
    check_state_dir(state_dir, allow_unsafe=True)
    assert told in caplog.text


@pytest.mark.usefixtures("private_group")
@pytest.mark.parametrize(("mode", "above"), [(0o700, 0o755), (0o775, 0o775), (0o755, 0o1777)])
def test_a_folder_of_our_own_is_not(tmp_path: Path, mode: int, above: int) -> None:
    """In a folder like /tmp, and where each user has a group, too."""
    state_dir = tmp_path / "above" / "state"
    state_dir.mkdir(parents=True)
    state_dir.chmod(mode)
    state_dir.parent.chmod(above)
    check_state_dir(state_dir, allow_unsafe=False)
    check_state_dir(state_dir / "not" / "there", allow_unsafe=False)


@pytest.mark.parametrize("is_above", [False, True])
def test_a_link_where_everybody_may_write_is_refused(tmp_path: Path, is_above: bool) -> None:
    """Whoever may write there can put the link elsewhere, however safe the folder is that it names now."""
    (tmp_path / "safe" / "state").mkdir(parents=True)
    (tmp_path / "open").mkdir()
    link = tmp_path / "open" / "link"
    link.symlink_to(tmp_path / "safe" if is_above else tmp_path / "safe" / "state")
    state_dir = link / "state" if is_above else link
    check_state_dir(state_dir, allow_unsafe=False)
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigError, match=r"open can be written by everybody \(mode 0777\)"):
        check_state_dir(state_dir, allow_unsafe=False)


def test_nobody_else_can_hold_the_lock(tmp_path: Path) -> None:
    """Who may read a file may lock it, so a user without any right to write could keep the agent from starting."""
    with locked_state_dir(tmp_path):
        assert (tmp_path / "agent.lock").stat().st_mode & 0o777 == 0o600


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    """It would make a file elsewhere."""
    (tmp_path / "agent.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be written"), locked_state_dir(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_the_agent_makes_is_its_own(tmp_path: Path) -> None:
    """Whatever the process's umask is."""
    before = os.umask(0)
    try:
        with locked_state_dir(tmp_path / "state"):
            assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_whether_an_agent_runs_is_seen_without_trying_its_lock(tmp_path: Path) -> None:
    """Who tried it could keep an agent out that starts at this moment."""
    state_dir = tmp_path / "state"
    assert is_in_use(state_dir) is False
    with locked_state_dir(state_dir):
        assert is_in_use(state_dir) is True
    assert is_in_use(state_dir) is False


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="the system has no folder in memory at this place")
def test_a_state_folder_in_memory_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A reboot clears it; whoever relies on the journal has to know."""
    with TemporaryDirectory(dir="/dev/shm") as folder, locked_state_dir(Path(folder)):
        assert is_in_memory(Path(folder))
    assert "state folder is in memory, a reboot clears it" in caplog.text


def test_what_is_not_there_is_not_in_memory(tmp_path: Path) -> None:
    """Nor is a folder of the root's file system."""
    assert not is_in_memory(tmp_path / "gone")
    assert not is_in_memory(Path("/usr"))
