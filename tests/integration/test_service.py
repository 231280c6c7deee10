"""What a service manager does to the agent and sees of it, with a real process and a real socket for its messages."""

from __future__ import annotations

import subprocess
from pathlib import Path

from processes import Broker, Subscriber, tool, wait_until


def test_a_service_finds_what_lies_beside_its_configuration(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path
) -> None:
    """systemd starts it in `/`; the bundle, the state folder and the password's file are named without a folder."""
    (tmp_path / "password").write_text("secret")
    config = tmp_path / "agent.toml"
    config.write_text(
        '[agent]\nid = "g1"\nstate_dir = "state"\nhealth_interval_s = 0.2\n'
        f'[mqtt]\nport = {broker.port}\nusername = "g1"\npassword_file = "password"\n[engine]\nprovider = "cpu"\n'
        f'[[stream]]\nname = "pump"\nbundle = "{bundle.name}"\ntopic = "sensors/+/pump"\n'
    )
    options = ["--config", str(config)]
    done = subprocess.run(
        [tool("edge-agent"), "check", *options], cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    with (tmp_path / "agent.log").open("wb") as log:
        agent = subprocess.Popen([tool("edge-agent"), "run", *options], cwd="/", stdout=log, stderr=log)
        try:
            subscriber.wait_online()
            wait_until(lambda: subscriber.stream("pump"), what="health")
            assert (tmp_path / "state" / "journal.db").exists()
        finally:
            agent.terminate()
            assert agent.wait(timeout=20) == 0
