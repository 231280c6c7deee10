"""The service under a real systemd 252, as its unit is: killed, hung, reloaded, without a disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from booted.conftest import Machine

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("lab")]
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
systemctl reload edge-agent; say reload $?
say status "$(edge-agent status | head -1 | cut -d: -f1)"
say good "$(systemctl is-active edge-agent)"; say same $([ $pid = $(state MainPID) ] && echo yes)
say now "$(mosquitto_sub -h 127.0.0.1 -t edge/press-8/status --retained-only -W 5 | grep -o '"state":"[a-z]*"')"
sed -i 's/^topic/topik/' /etc/edge-agent/agent.toml; systemctl reload edge-agent; say refusal $?
say bad "$(systemctl is-active edge-agent)"; say goes_on $([ $pid = $(state MainPID) ] && echo yes)
sleep 1.5; say text "$(state StatusText)"
say shown "$(edge-agent status | grep -c -E '(reload problem|next start) .*topik')"
say errors "$(journalctl -u edge-agent -p err --no-pager -q -o cat | grep -c topik)"
systemctl restart edge-agent; sleep 5; say refused "$(state ExecMainStatus) $(state NRestarts) $(state ActiveState)"
""")
    assert (found["reload"], found["refusal"]) == ("0", "1")
    # The reload has ended, so the new start is complete.
    assert found["status"] == "press-8"
    assert (found["good"], found["same"], found["now"]) == ("active", "yes", '"state":"online"')
    assert (found["bad"], found["goes_on"]) == ("active", "yes")
    assert "reload refused" in found["text"]
    assert found["shown"] == "2"
    assert int(found["errors"]) >= 1
    assert found["refused"] == "78 0 failed"


def test_no_disk_and_no_broker_are_no_reason_not_to_start(machine: Machine) -> None:
    """Read-only and full from the first start; the broker comes later."""
    found = machine.run("""
installing first > /dev/null; systemctl stop edge-agent; rm -rf /var/lib/private/edge-agent /var/lib/edge-agent
mount --bind /var /var; mount -o remount,bind,ro /var
systemctl start edge-agent 2> /dev/null; sleep 6
say read_only "$(systemctl is-active edge-agent)"; say alert_read_only "$(alert)"
say status_read_only "$(edge-agent status | grep -o 'pump  *[0-9]* reading')"
edge-agent mute pump --for 1h; say mute_read_only $?
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
    assert found["status_read_only"].startswith("pump ")
    assert found["mute_read_only"] == "0"
    assert (found["full"], found["alert_full"]) == ("active", '"event":"raise"')
    assert found["without_broker"] == "active"
    assert "not connected" in found["waits_for"]
    assert found["found_broker"] == '"event":"raise"'


def test_a_clock_of_1970_that_jumps_loses_and_changes_no_alert_that_waits(machine: Machine, lab: Path) -> None:
    """Only the agent sees that clock, through a hook: a container has none of its own, and under libfaketime 0.9.10 the
    agent does not get to READY. What sleeps: a start after a kill takes 2 s and more, health is told every 10 s.
    """
    shutil.copy(Path(__file__).parents[1] / "hooked_agent.py", lab)
    found = machine.run(f"""
installing first > /dev/null; systemctl stop edge-agent
printf '[mqtt.alerts]\\nhost = "127.0.0.1"\\nport = 1884\\n' >> /etc/edge-agent/agent.toml
folder=/run/systemd/system/edge-agent.service.d; mkdir -p $folder; install -m 644 /lab/hooked_agent.py /srv
hooked="{PYTHON} /srv/hooked_agent.py clock=/run/offset -- run --config /etc/edge-agent/agent.toml"
printf '[Service]\\nExecStart=\\nExecStart=%s\\n' "$hooked" > $folder/clock.conf
now=$(date +%s); echo "-$((now - 100))" > /run/offset
systemctl daemon-reload; systemctl start edge-agent; say started "$(state StatusText)"
live() {{ printf '{{"pressure": %s, "flow": 0.8}}' $1 | mosquitto_pub -h 127.0.0.1 -q 1 -t sensors/live/pump -s; }}
episode() {{ sender $(($1 + 1)) 9.1; sender $(($1 + 2)) 4.0; live 9.1; sleep 0.2; live 4.0; sleep 0.5; }}
episode $now; systemctl kill -s KILL edge-agent; sleep 5; episode $((now + 10))
echo 0 > /run/offset; sleep 1; episode $((now + 20)); systemctl kill -s KILL edge-agent; sleep 5
episode $((now + 30)); sleep 12; say waiting "$(edge-agent status | grep -o '[0-9]* events wait')"
systemctl stop edge-agent
printf 'listener 1884 127.0.0.1\\nallow_anonymous true\\n' > /srv/alerts.conf; mosquitto -c /srv/alerts.conf -d; sleep 1
mosquitto_sub -h 127.0.0.1 -p 1884 -q 1 -t 'edge/press-7/alerts/#' -W 15 > /srv/alerts & watcher=$!
sleep 1; systemctl start edge-agent; wait $watcher
say events "$(grep -c . /srv/alerts) $(grep -o '"id":"[^"]*"' /srv/alerts | sort -u | wc -l)"
say kinds "$(grep -o '"event":"[a-z]*"' /srv/alerts | sort | uniq -c | tr -s ' \\n' ' ')"
say boot "$(grep '"asset":"live"' /srv/alerts | grep -c '"time":"1970')"
say live "$(grep -c '"asset":"live"' /srv/alerts)"
""")
    assert "127.0.0.1:1884" in found["started"]
    assert found["waiting"] == "16 events wait"
    # Two of each episode's four readings raise, and two clear; a raise and its clear have one id.
    assert found["events"] == "16 8"
    assert found["kinds"] == ' 8 "event":"clear" 8 "event":"raise" '
    assert (found["live"], found["boot"]) == ("8", "4")
