"""The service under a real systemd 252, as its unit is: killed, hung, reloaded, without a disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from booted.conftest import Machine

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("booted")]
PYTHON = "/opt/edge-agent/current/bin/python3"


def test_the_service_comes_back_from_whatever_ends_it_and_loses_nothing(machine: Machine, lab: Path) -> None:
    """SIGKILL under load, a foreign SIGTERM, a hang; and a stop that was asked for is one."""
    shutil.copy(Path(__file__).parent / "load.py", lab)
    found = machine.run(f"""
installing first > /dev/null; say installed $?
# Each reading is to give an event.
printf '[stream.alarm]\\nflap_raises = 0\\n' >> /etc/edge-agent/agent.toml; systemctl restart edge-agent
{PYTHON} /lab/load.py 400 100 > /srv/load & sender=$!
sleep 1.5; systemctl kill -s KILL edge-agent; wait $sender; say killed "$(cat /srv/load)"
pid=$(state MainPID); kill -TERM $pid; sleep 5
say terminated "$(systemctl is-active edge-agent)" ; say is_another $([ $pid != $(state MainPID) ] && echo yes)
mkdir -p /run/systemd/system/edge-agent.service.d
printf '[Service]\\nWatchdogSec=8\\n' > /run/systemd/system/edge-agent.service.d/watchdog.conf
systemctl daemon-reload; systemctl restart edge-agent; sleep 1
pid=$(state MainPID); kill -STOP $pid; sleep 16
say hung $([ $pid != $(state MainPID) ] && systemctl is-active edge-agent); say alert "$(alert)"
say hung_in "$(journalctl -u edge-agent --no-pager -o cat | grep -c 'the last run crashed')"
systemctl stop edge-agent; sleep 4; say stopped "$(systemctl is-active edge-agent)"
""")
    assert found["installed"] == "0"
    assert found["killed"] == "lost=0 two_contents=0"
    assert (found["terminated"], found["is_another"]) == ("active", "yes")
    assert (found["hung"], found["alert"]) == ("active", '"event":"raise"')
    assert int(found["hung_in"]) >= 1
    assert found["stopped"] == "inactive"


def test_a_reload_takes_a_good_configuration_and_leaves_a_bad_one(machine: Machine) -> None:
    """In the same process, and told; errors have their priority in the journal."""
    found = machine.run("""
installing first > /dev/null
pid=$(state MainPID); sed -i 's/^id = .*/id = "press-8"/' /etc/edge-agent/agent.toml
systemctl reload edge-agent; say reload $?; sleep 4
say good "$(systemctl is-active edge-agent)"; say same $([ $pid = $(state MainPID) ] && echo yes)
say now "$(mosquitto_sub -h 127.0.0.1 -t edge/press-8/status --retained-only -W 5 | grep -o '"state":"[a-z]*"')"
sed -i 's/^topic/topik/' /etc/edge-agent/agent.toml; systemctl reload edge-agent; sleep 4
say bad "$(systemctl is-active edge-agent)"; say goes_on $([ $pid = $(state MainPID) ] && echo yes)
say text "$(state StatusText)"
say errors "$(journalctl -u edge-agent -p err --no-pager -q -o cat | grep -c topik)"
systemctl restart edge-agent; sleep 5; say refused "$(state ExecMainStatus) $(state NRestarts) $(state ActiveState)"
""")
    assert found["reload"] == "0"
    assert (found["good"], found["same"], found["now"]) == ("active", "yes", '"state":"online"')
    assert (found["bad"], found["goes_on"]) == ("active", "yes")
    assert "reload refused" in found["text"]
    assert int(found["errors"]) >= 1
    assert found["refused"] == "78 0 failed"


def test_no_disk_and_no_broker_are_no_reason_not_to_start(machine: Machine) -> None:
    """Read-only and full from the first start; the broker comes later."""
    found = machine.run("""
installing first > /dev/null; systemctl stop edge-agent; rm -rf /var/lib/private/edge-agent /var/lib/edge-agent
mount --bind /var /var; mount -o remount,bind,ro /var
systemctl start edge-agent 2> /dev/null; sleep 6
say read_only "$(systemctl is-active edge-agent)"; say alert_read_only "$(alert)"
systemctl stop edge-agent; umount /var; rm -rf /run/systemd/system/edge-agent.service.d; systemctl daemon-reload
mkdir -p /var/lib/private; mount -t tmpfs -o size=64k tmpfs /var/lib/private
dd if=/dev/zero of=/var/lib/private/full bs=1k count=64 2> /dev/null
systemctl start edge-agent 2> /dev/null; sleep 6
say full "$(systemctl is-active edge-agent)"; say alert_full "$(alert)"
systemctl stop edge-agent; umount /var/lib/private; rm -rf /run/systemd/system/edge-agent.service.d
systemctl daemon-reload; systemctl stop mosquitto; systemctl start edge-agent
say without_broker "$(systemctl is-active edge-agent)"
say waits_for "$(sleep 2; state StatusText)"; systemctl start mosquitto; sleep 35; say found_broker "$(alert)"
""")
    assert (found["read_only"], found["alert_read_only"]) == ("active", '"event":"raise"')
    assert (found["full"], found["alert_full"]) == ("active", '"event":"raise"')
    assert found["without_broker"] == "active"
    assert "not connected" in found["waits_for"]
    assert found["found_broker"] == '"event":"raise"'
