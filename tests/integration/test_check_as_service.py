"""`edge-agent check` for root, who reads what the service's user cannot."""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import pytest
from certificates import Authority
from processes import tool, write_config

import edgetool
from edge_agent.cli.as_service import as_service, is_for_service
from edge_agent.config.load import load_config
from edge_agent.errors import ConfigError, UsageError
from edge_agent.service import unit as unit_module

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user does")


def check(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [tool("edge-agent"), "check", "--config", str(config), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@needs_root
def test_what_the_service_does_not_see_is_told(tmp_path: Path, bundle: Path) -> None:
    """Root finds it good; the unit hides the folder of these tests. No advice to pack the bundle again."""
    keys = edgetool.keygen(tmp_path / "plant")
    edgetool.sign(bundle, key=keys.key)
    config = write_config(tmp_path, 1883, {"pump": bundle}, extra='[trust]\nkeys = ["plant.pub"]')
    assert check(config).returncode == 0, "by default only with a configuration in /etc/edge-agent"
    done = check(config, "--as-service")
    assert done.returncode == 78
    for path in (config, bundle, keys.public):
        (line,) = [line for line in done.stderr.splitlines() if f"{path}: " in line]
        assert "the user that systemd makes for the service cannot read it (" in line
        assert "put it into /etc/edge-agent" in line
    assert "pack" not in done.stderr


def test_only_root_can_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And root need not ask, for the service's own configuration; rows to compare with are the caller's."""

    def asks(config: str, *, asked: bool | None = None, data: str | None = None) -> bool:
        return is_for_service(argparse.Namespace(config=Path(config), as_service=asked, data=data))

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not asks("/etc/edge-agent/agent.toml")
    with pytest.raises(UsageError, match="--as-service: only root can look as another user does"):
        asks("/etc/edge-agent/agent.toml", asked=True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert asks("/etc/edge-agent/agent.toml")
    assert not asks("/etc/edge-agent/agent.toml", asked=False)
    assert not asks("/etc/edge-agent/agent.toml", data="rows.csv")
    assert not asks("/srv/agent.toml")
    assert asks("/srv/agent.toml", asked=True)


def test_credentials_of_the_unit_are_there_as_for_the_service(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the names that systemd gives them; they are gone afterwards, and so are the variables."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "secret").write_text("word")
    text = f"[Service]\nDynamicUser=yes\nLoadCredential=mqtt-password:{tmp_path / 'secret'}\n"
    monkeypatch.setattr(unit_module, "_ask", lambda _: text)
    config = write_config(tmp_path, 1883, {"pump": bundle}, mqtt='username = "g1"')
    with as_service(config):
        assert os.environ["STATE_DIRECTORY"] == "/var/lib/edge-agent"
        found = load_config(config).mqtt.password_file
        assert found is not None
        assert Path(found).read_text() == "word"
        assert Path(found).parent.stat().st_mode & 0o077 == 0
        assert Path(found).stat().st_mode & 0o077 == 0
    assert not Path(found).exists()
    assert "CREDENTIALS_DIRECTORY" not in os.environ
    (tmp_path / "secret").unlink()
    told = (
        f"edge-agent.service: LoadCredential=mqtt-password:{tmp_path / 'secret'}: no such file; the service ends with"
    )
    with pytest.raises(ConfigError, match=told), as_service(config):
        pass


def test_a_key_that_cannot_be_used_is_found_before_the_start(tmp_path: Path, bundle: Path) -> None:
    """The service would be active, and never connected."""
    authority = Authority(tmp_path)
    files = {"ca_file": authority.file, "cert_file": tmp_path / "agent.crt", "key_file": tmp_path / "agent.key"}
    for file in list(files.values())[1:]:
        file.write_text("no PEM")
    mqtt = "\n".join(f'{key} = "{file}"' for key, file in files.items())
    done = check(write_config(tmp_path, 8883, {"pump": bundle}, mqtt=mqtt))
    assert done.returncode == 78
    assert "agent.toml: [mqtt] cert_file = " in done.stderr
    assert "cannot be used (" in done.stderr
