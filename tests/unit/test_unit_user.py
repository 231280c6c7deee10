"""What a unit says of its user, and what that user can read."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from edge_agent.service.unit import ServiceUnit, cannot_read, read_unit, unit_of

ROOT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user does")


@pytest.mark.parametrize(
    ("config", "unit"),
    [("/etc/edge-agent/agent.toml", "edge-agent.service"), ("/etc/edge-agent/press.toml", "edge-agent@press.service")],
)
def test_a_configuration_has_its_unit(config: str, unit: str) -> None:
    """That of the template is named after the file."""
    assert unit_of(Path(config)) == unit


def test_our_unit_has_a_user_that_systemd_makes() -> None:
    """Of a number that no user of the system has, and in no group of the system."""
    unit = read_unit("edge-agent.service", (ROOT / "systemd" / "edge-agent.service").read_text())
    assert (unit.is_known, unit.user, unit.groups, unit.credentials) == (True, None, [], {})
    user, group, groups = unit.ids()
    assert 61184 <= user == group <= 65519
    assert groups == []
    assert user not in {known.pw_uid for known in pwd.getpwall()}


def test_a_drop_in_changes_it() -> None:
    """In the order of the files; an empty value takes back what stood before."""
    text = (
        "[Service]\nDynamicUser=yes\nLoadCredential=gone:/etc/gone\nSupplementaryGroups=video\n"
        "[Service]\nDynamicUser=no\nUser=root\nLoadCredential=\nLoadCredential=mqtt-key:/etc/edge-agent/key.pem\n"
        "LoadCredential=of-a-store\nSupplementaryGroups=\nSupplementaryGroups=daemon sys\n"
    )
    unit = read_unit("edge-agent.service", text)
    assert (unit.user, unit.groups) == ("root", ["daemon", "sys"])
    assert unit.credentials == {"mqtt-key": Path("/etc/edge-agent/key.pem")}
    assert unit.ids()[0] == 0
    with pytest.raises(KeyError):
        ServiceUnit("u", is_known=True, user="no-such-user").ids()


@needs_root
def test_what_only_root_can_read_is_found() -> None:
    """By the file's own mode, by a folder's above it, and by a group that the unit gives."""
    with TemporaryDirectory() as name:
        folder, inner = Path(name), Path(name) / "inner"
        folder.chmod(0o755)
        inner.mkdir(mode=0o700)
        modes = {"open": 0o644, "closed": 0o600, "of-group": 0o640, "inner/open": 0o644}
        for place, mode in modes.items():
            (folder / place).write_text("x")
            (folder / place).chmod(mode)
        os.chown(folder / "of-group", 0, 4242)
        paths = [*(folder / place for place in modes), folder / "gone"]
        without = cannot_read(paths, (64999, 64999, []), hidden={})
        assert without == dict.fromkeys([folder / "closed", folder / "of-group", inner / "open"], "Permission denied")
        with_group = cannot_read(paths, (64999, 64999, [4242]), hidden={})
        assert set(with_group) == {folder / "closed", inner / "open"}
        assert cannot_read(paths, (0, 0, []), hidden={}) == {}


@needs_root
def test_what_the_unit_hides_is_found(tmp_path: Path) -> None:
    """Though its mode lets everybody read it; also behind a link."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    hidden = {str(tmp_path): "PrivateTmp=yes"}
    found = cannot_read([tmp_path / "file", tmp_path / "link", Path("/")], (0, 0, []), hidden)
    assert found == dict.fromkeys([tmp_path / "file", tmp_path / "link"], "PrivateTmp=yes of the unit hides it")
