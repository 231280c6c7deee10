"""`agent.toml` is read whole, and every mistake in it is told with its key."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import msgspec
import pytest

from edge_agent.config.load import load_config
from edge_agent.config.paths import is_path
from edge_agent.config.service_state import service_state_dir
from edge_agent.config.settings import SECTIONS, StreamSection
from edge_agent.errors import ConfigError
from edge_agent.mqtt.credentials import read_credentials

HASH = "0" * 64
GOOD = """
[agent]
id = "press-7"
state_dir = "/tmp/state"

[[stream]]
name = "pump"
bundle = "pump.edge"
topic = "sensors/+/pump"
"""


def test_defaults_fill_what_the_file_leaves_out(tmp_path: Path) -> None:
    """A short file gives a whole config."""
    config = load_config(_write(tmp_path, GOOD))
    assert config.mqtt.host == "127.0.0.1"
    assert config.mqtt.port == 1883
    assert config.engine.provider == "auto"
    assert config.streams[0].qos == 1


def _write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "agent.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[mqtt]\nprot = 1", "[mqtt] prot: unknown key; did you mean 'port'?"),
        ("[mqtt]\nport = 70000", "[mqtt] port = 70000: expected an integer from 1 to 65535"),
        ('[mqtt]\nport = "1883"', "[mqtt] port = '1883': expected an integer from 1 to 65535; write port = 1883"),
        ("[mqtt]\nport = 1883.0", "[mqtt] port = 1883.0: expected an integer from 1 to 65535; write port = 1883"),
        ("[mqtt]\nport = 1883.5", "[mqtt] port = 1883.5: expected an integer from 1 to 65535"),
        ("[mqtt]\nport = true", "[mqtt] port = True: expected an integer from 1 to 65535"),
        (
            '[mqtt]\nstandby = "10.0.0.2"',
            (
                "[mqtt] standby = '10.0.0.2': expected a list of up to 15 addresses, each HOST or HOST:PORT; "
                'write standby = ["10.0.0.2"]'
            ),
        ),
        (
            '[mqtt]\nstandby = ["fd00::2"]',
            "[mqtt] standby = 'fd00::2': expected HOST or HOST:PORT, with an IPv6 address in brackets",
        ),
        (
            '[mqtt.alerts]\nhost = "b"\nstandby = ["b:1883"]',
            "[mqtt] [alerts] standby = 'b:1883': is b:1883, which host names already; leave one out",
        ),
        ("[mqtt]\nprotocol = 4", '[mqtt] protocol = 4: expected one of "auto", "5", "3.1.1"'),
        ('[mqtt]\nprotocol = "311"', '[mqtt] protocol = \'311\': expected one of "auto", "5", "3.1.1"'),
        (f"[mqtt]\nprotocol = {10**400}", f'[mqtt] protocol = {10**400}: expected one of "auto", "5", "3.1.1"'),
        ("[mqtt]\nprotocol = true", '[mqtt] protocol = True: expected one of "auto", "5", "3.1.1"'),
        (
            '[mqtt]\nprotocol = " 3.1.1"',
            '[mqtt] protocol = \' 3.1.1\': expected one of "auto", "5", "3.1.1"; write protocol = "3.1.1"',
        ),
        (
            "[mqtt]\nusername = 12",
            '[mqtt] username = 12: expected a text without control characters; write username = "12"',
        ),
        ("[mqtt]\ntls = 1", "[mqtt] tls = 1: expected true or false; write tls = true"),
        ('[mqtt]\ntls = "True"', "[mqtt] tls = 'True': expected true or false; write tls = true"),
        (
            "[publish]\nscores = 5",
            '[publish] scores = 5: expected a length of time, such as "5s" or "2m"',
        ),
        (
            '[homeassistant]\nprefix = "ha/#"',
            "[homeassistant] prefix = 'ha/#': expected levels of a topic, without '+', '#' or a '$' in front",
        ),
        (
            "[evidence]\nbefore_s = 100000\nmax_bytes = 5",
            "[evidence] max_bytes = 5: expected an integer number of bytes from 100000 to 1000000000",
        ),
        (
            "[evidence]\nbefore_s = 100000",
            "[evidence] before_s = 100000: expected a number of seconds from 0 to 86400 (a day)",
        ),
        (
            "[metrics]\nmost_assets = 5",
            "[metrics] most_assets = 5: has no effect without [publish] scores",
        ),
        (
            '[publish]\nscores = "5s"\n[metrics]\nmost_assets = 5',
            "[metrics] most_assets = 5: has no effect without listen",
        ),
        ("[publish]\nscores_a_second = 5", "[publish] scores_a_second = 5: has no effect without scores"),
        (
            "[evidence]\nmax_bytes = 200000",
            "[evidence] max_bytes = 200000: has no effect without before_s or after_s",
        ),
        (
            '[homeassistant]\nprefix = "ha"',
            "[homeassistant] prefix = 'ha': has no effect without discovery = true",
        ),
        (
            "[homeassistant]\nmost_assets = 5",
            "[homeassistant] most_assets = 5: has no effect without discovery = true",
        ),
        ("[sparkplug]\nmost_assets = 5", "[sparkplug] most_assets = 5: has no effect without group"),
        (
            "[metrics]\nlisten = 9464",
            '[metrics] listen = 9464: expected HOST:PORT in quotes, such as "127.0.0.1:9464"',
        ),
        (
            '[metrics]\nlisten = "9464"',
            "[metrics] listen = '9464': expected HOST:PORT in quotes, such as \"127.0.0.1:9464\"",
        ),
        (
            '[evidence]\nbefore_s = "60s"',
            "[evidence] before_s = '60s': expected a number of seconds from 0 to 86400 (a day)",
        ),
        (
            '[publish]\nscores = "0.01s"',
            "[publish] scores = '0.01s': expected a length of time from 0.1s to 1d, as 0.5s, 5s or 1min",
        ),
        (
            '[journal]\nlimit_mb = "64"',
            "[journal] limit_mb = '64': expected a number of megabytes from 0 to 1000000; write limit_mb = 64",
        ),
        ("[mqttt]\nport = 1", "[mqttt]: unknown section; did you mean 'mqtt'?"),
        ("mqtt = 3", "[mqtt]: expected a table of keys, found int"),
        ("[engine]\nthreads = 0", "[engine] threads = 0: expected an integer from 1 to 64"),
        (
            '[engine]\nprefer = "cpu"',
            "[engine] prefer = 'cpu': expected a list of provider names; write prefer = [\"cpu\"]",
        ),
        (
            '[engine]\nrequire = "cpu"\nprefer = ["openvino"]',
            "[engine] require: leaves no choice, so provider and prefer must not be given beside it",
        ),
        (
            '[engine]\nprovider = "cpu"\nprefer = ["openvino"]',
            "[engine] prefer: has no effect beside provider = 'cpu'; leave one out",
        ),
        (
            f'[[engine.custom_ops]]\npath = 1\nsha256 = "{HASH}"',
            '[engine] [[custom_ops]] 1 path = 1: expected a path without control characters; write path = "1"',
        ),
        (
            '[[engine.custom_ops]]\npath = "/lib.so"\nsha256 = "AB"',
            (
                "[engine] [[custom_ops]] 1 sha256 = 'AB': expected 64 lower-case hexadecimal digits, as sha256sum "
                "prints them"
            ),
        ),
        ('[[engine.custom_ops]]\npath = "/lib.so"', "[engine] [[custom_ops]] 1 sha256: is missing"),
        (
            f'[engine.custom_ops]\npath = "/lib.so"\nsha256 = "{HASH}"',
            "[engine] [[custom_ops]]: is written in double brackets, because there may be several",
        ),
        (
            f'[[engine.custom_ops]]\npath = "/a"\nsha256 = "{HASH}"\n' * 2,
            f"[engine] [[custom_ops]] 2 sha256 = '{HASH}': used by an earlier one too; leave one out",
        ),
        (
            f'[engine]\nsha256 = "{HASH}"',
            "[engine] sha256: unknown key; it belongs into a table [[engine.custom_ops]] below",
        ),
        ('[mqtt]\nca_file = "/nowhere/ca"', "[mqtt] ca_file = '/nowhere/ca': no such file"),
        ('[mqtt]\ncert_file = "x"', "[mqtt] cert_file and key_file: give both or none"),
        ('[mqtt]\npassword_file = "/nowhere/pw"', "[mqtt] username: is needed beside a password"),
    ],
)
def test_a_mistake_is_told_with_its_key(tmp_path: Path, text: str, problem: str) -> None:
    """Each wrong line gives exactly this problem."""
    file = _write(tmp_path, f"{text}\n{GOOD}" if not text.startswith("[agent]") else text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert f"{file}: {problem}" in str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        ('name = "a/b"', "[[stream]] 1 name = 'a/b': expected a name of 1 to 64 characters"),
        ('bundel = "x"', "[[stream]] 1 bundel: unknown key; did you mean 'bundle'?"),
        ('name = "p"\nbundle = "b"', "[[stream]] 1 topic: is missing, or input in its place"),
        (
            'name = "p"\nbundle = "b"\ntopic = "a/#"',
            "[[stream]] 1 topic = 'a/#': which asset a reading is of stays open",
        ),
        ('name = "p"\nbundle = "b"\ntopic = "a/+/+"', "[[stream]] 1 topic = 'a/+/+': expected '{asset}' once"),
        ('name = "p"\nbundle = "b"\ntopic = "a/+"\nqos = 2', "[[stream]] 1 qos = 2: expected 0 or 1"),
        ('name = "p"\n[stream.alarm]\nwarn = nan', "[[stream]] 1 [alarm] warn = nan: expected a number"),
        ("name = 7", "[[stream]] 1 name = 7: expected a name of 1 to 64 characters"),
        (
            'name = "p"\ntopic = "a/+"\n[stream.window]\nevery_s = 0.0001',
            "[[stream]] 1 [window] every_s = 0.0001: expected 0, or at least 0.001",
        ),
        (
            'name = "p"\ntopic = "a/+"\n[stream.window]\nresample = "mean"',
            "[[stream]] 1 [window] resample = 'mean': has no effect without every_s",
        ),
        (
            'name = "p"\ntopic = "a/+"\n[stream.window]\nmissing = "model"\nhold_s = 5',
            "[[stream]] 1 [window] hold_s = 5: has no effect with missing = 'model'",
        ),
        (
            'name = "p"\ntopic = "a/+"\nsilent_s = 700_000',
            "[[stream]] 1 silent_s = 700000: must be below idle_s = 604800, or a silence is never told",
        ),
        ("late_s = 2", "[[stream]] 1 late_s: unknown key; it belongs into a table [stream.window] below"),
        (
            "[stream.alarm]\nidle_s = 2",
            "[[stream]] 1 [alarm] idle_s: unknown key; it belongs above this table, right below [[stream]] 1",
        ),
    ],
)
def test_a_mistake_in_a_stream_is_told_with_its_number(tmp_path: Path, stream: str, problem: str) -> None:
    """Streams have no section name, so the number says which."""
    file = _write(tmp_path, f'[agent]\nstate_dir = "/tmp"\n[[stream]]\n{stream}\n')
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert any(line.startswith(f"{file}: {problem}") for line in str(caught.value).splitlines())


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Nobody should have to fix one to learn of the next."""
    text = '[mqtt]\nport = 0\nhst = "x"\n[engine]\nthreads = "two"\n[[stream]]\nname = "p"\n'
    file = _write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    told = str(caught.value)
    for part in (
        "port = 0",
        "hst: unknown key",
        "threads = 'two'",
        "bundle: is missing",
        "topic: is missing",
        "state_dir",
    ):
        assert part in told


def test_one_mistake_hides_no_other(tmp_path: Path) -> None:
    """Of two streams with one name, the second of which has more that is wrong."""
    second = '[[stream]]\nname = "pump"\nbundle = "x"\ntopic = "a/#"\n[stream.alarm]\nconfirm = 5\n'
    second += "[stream.commission]\nreadings = 10\n"
    with pytest.raises(ConfigError) as caught:
        load_config(_write(tmp_path, GOOD + second))
    told = str(caught.value)
    for part in (
        "2 topic = 'a/#'",
        "2 name = 'pump': used by",
        "2 [alarm] confirm = 5",
        "2 [commission] readings = 10",
    ):
        assert part in told


def test_two_streams_must_not_share_readings(tmp_path: Path) -> None:
    """A reading belongs to one stream."""
    other = '[[stream]]\nname = "pump"\nbundle = "x.edge"\ntopic = "sensors/a1/+"\n'
    with pytest.raises(ConfigError, match="overlaps 'sensors/\\+/pump'") as caught:
        load_config(_write(tmp_path, GOOD + other))
    assert "used by an earlier stream too" in str(caught.value)


GATEWAY = """
[[stream]]
name = "fan"
bundle = "f.edge"
topic = ["gw/{line}/data", "old/{line}/#"]
asset = "{line}"
[stream.payload]
preset = "kepware"
names = "{any}.{channel}"
[stream.payload.channels]
speed = "Speed"
flow = { from = "Flow", scale = 0.1, unit = "m3/h" }
"""


def test_a_table_of_payloads_is_read_and_shown_with_its_preset(tmp_path: Path) -> None:
    """So that a person sees what it stands for."""
    config = load_config(_write(tmp_path, GOOD + GATEWAY))
    shown = config.describe()["stream"][1]
    assert shown["payload"]["rows"] == "values[]"
    assert shown["payload"]["good"] == {"key": "q", "is": (True,)}
    assert shown["payload"]["channels"]["flow"] == {"from": "Flow", "scale": 0.1, "unit": "m3/h"}
    assert config.streams[1].filters.subscriptions == ["gw/+/data", "old/+/#"]
    assert config.streams[1].settings.join_s == 1.0
    assert config.describe()["stream"][0]["payload"] == {}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('preset = "kepware"', 'preset = "kep"', "[payload] preset = 'kep': expected one of"),
        ('preset = "kepware"', "presets = 1", "[payload] presets: unknown key; did you mean 'preset'?"),
        ("scale = 0.1", "scales = 0.1", "[payload] [channels] flow scales: unknown key; did you mean 'scale'?"),
        ("scale = 0.1", 'scale = "a"', "[payload] [channels] flow scale = 'a': expected a number"),
        ('speed = "Speed"', "speed = 5", "[payload] [channels] speed: expected a table of keys, found int"),
        ('asset = "{line}"', 'asset = "{row}"', "asset = '{row}': the topic has no '{row}', but '{line}'"),
        ('asset = "{line}"', "", 'expected asset = "{line}" or the like'),
        ('"old/{line}/#"', '"gw/{line}/#"', "have topics in common"),
        ('topic = ["gw/{line}/data", "old/{line}/#"]', "topic = []", "expected at least one topic"),
    ],
)
def test_a_mistake_in_what_readings_look_like_is_told_with_its_key(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    """As every other one."""
    assert old in GATEWAY
    with pytest.raises(ConfigError) as caught:
        load_config(_write(tmp_path, GOOD + GATEWAY.replace(old, new)))
    assert problem in str(caught.value)


def test_a_table_may_say_the_asset_in_place_of_the_topic(tmp_path: Path) -> None:
    """Also one that a preset stands for."""
    text = '[[stream]]\nname = "gw"\nbundle = "x.edge"\ntopic = "v1/#"\n[stream.payload]\n'
    assert (
        load_config(_write(tmp_path, f'{GOOD}{text}preset = "thingsboard-gateway"\n')).streams[1].payload.asset == "$1"
    )
    with pytest.raises(ConfigError, match="which asset a reading is of stays open"):
        load_config(_write(tmp_path, f'{GOOD}{text}preset = "thingsboard"\n'))


def test_two_streams_may_have_one_topic(tmp_path: Path) -> None:
    """A gateway sends all machines on one; their QoS is one, too."""
    other = '[[stream]]\nname = "hot"\nbundle = "x.edge"\ntopic = "sensors/{asset}/pump"\n'
    assert len(load_config(_write(tmp_path, GOOD + other)).streams) == 2
    with pytest.raises(ConfigError, match="has the same topic with another"):
        load_config(_write(tmp_path, f"{GOOD}{other}qos = 0\n"))


def test_a_setting_on_the_command_line_wins(tmp_path: Path) -> None:
    """--set takes TOML values, and bare words as text."""
    config = load_config(_write(tmp_path, GOOD), ("mqtt.port=8883", "mqtt.host=broker.local"))
    assert (config.mqtt.host, config.mqtt.port) == ("broker.local", 8883)


@pytest.mark.parametrize(
    ("written", "protocol"), [("5", "5"), ("5.0", "5"), ('"5"', "5"), ('"3.1.1"', "3.1.1"), ('"auto"', "auto")]
)
def test_a_protocol_is_taken_as_people_write_it(tmp_path: Path, written: str, protocol: str) -> None:
    """Nobody thinks of 5 as a text."""
    assert load_config(_write(tmp_path, f"{GOOD}\n[mqtt]\nprotocol = {written}")).mqtt.protocol == protocol
    assert load_config(_write(tmp_path, GOOD), (f"mqtt.protocol={written}",)).mqtt.protocol == protocol


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("protocol = 3.1.1", '; a text stands between quotes: protocol = "3.1.1"'),
        ("host = localhost  # here", '; a text stands between quotes: host = "localhost"'),
        ("host = 192.168.1.5", '; a text stands between quotes: host = "192.168.1.5"'),
        ("ca_file = C:\\ca.pem", "; a text stands between quotes: ca_file = 'C:\\ca.pem'"),
        ("tls = True", "; write tls = true"),
        ("keepalive_s = 30 s", ""),
        ("keepalive_s = 030", ""),
        ('host = "localhost', ""),
        ("host", ""),
    ],
)
def test_quotes_that_are_missing_are_told(tmp_path: Path, line: str, advice: str) -> None:
    """Otherwise the place is told by its line and column only."""
    file = _write(tmp_path, f"[mqtt]\n{line}\n")
    with pytest.raises(ConfigError, match=r": is not TOML: .*at line 2") as caught:
        load_config(file)
    assert str(caught.value).partition(")")[2] == advice


def test_a_text_on_the_command_line_may_look_like_a_number(tmp_path: Path) -> None:
    """A shell takes the quotes away that would say so."""
    config = load_config(_write(tmp_path, GOOD), ("agent.id=7", "mqtt.username=1e5", "mqtt.port=1884"))
    assert (config.agent.id, config.mqtt.username, config.mqtt.port) == ("7", "1e5", 1884)


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    """show-config output can be pasted into a report."""
    secret = tmp_path / "password"
    secret.write_text("hunter2\n", encoding="utf-8")
    text = f'[mqtt]\nusername = "u"\npassword_file = "{secret}"\n{GOOD}'
    config = load_config(_write(tmp_path, text))
    found = read_credentials(config.mqtt.username, None, config.mqtt.password_file)
    assert found.password is not None
    assert found.password.value == "hunter2"
    assert "hunter2" not in repr(config.describe())
    assert "hunter2" not in repr(config)
    assert "hunter2" not in repr(found)


def test_the_state_folder_of_systemd_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the unit nobody has to name it."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edge-agent:/var/lib/other")
    config = load_config(_write(tmp_path, GOOD.replace('state_dir = "/tmp/state"', "")))
    assert config.agent.state_dir == "/var/lib/edge-agent"


def test_commands_beside_the_service_find_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is, and is theirs to read: with DynamicUser= it lies behind a folder that is root's."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    config = _write(tmp_path, GOOD.replace('state_dir = "/tmp/state"', ""))
    found = partial(service_state_dir, states=tmp_path / "lib", runtime=tmp_path / "run")
    monkeypatch.setattr("edge_agent.config.load.service_state_dir", found)
    with pytest.raises(ConfigError, match=r"state_dir: is missing.*--set agent.state_dir"):
        load_config(config)
    service = tmp_path / "lib" / "edge-agent"
    service.mkdir(parents=True)
    assert load_config(config).agent.state_dir == str(service)
    # Each agent of the template has a folder of its own.
    monkeypatch.setattr("edge_agent.config.service_state._SETTINGS", tmp_path)
    press = config.rename(tmp_path / "press.toml")
    service.with_name("edge-agent-press").mkdir()
    assert load_config(press).agent.state_dir == str(service.with_name("edge-agent-press"))
    # A start with /var read-only has left this, and the state in memory.
    left = tmp_path / "run/systemd/system/edge-agent@press.service.d/state-in-memory.conf"
    left.parent.mkdir(parents=True)
    left.touch()
    (tmp_path / "run" / "edge-agent-press").mkdir()
    assert load_config(press).agent.state_dir == str(tmp_path / "run" / "edge-agent-press")
    config = press.rename(config)

    real = os.stat

    def forbidden(path: str | Path, **options: bool) -> os.stat_result:
        if "edge-agent" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr("os.stat", forbidden)
    with pytest.raises(ConfigError, match="not ours to read"):
        load_config(config)


def test_a_missing_file_says_how_to_give_one(tmp_path: Path) -> None:
    """One line with the next step."""
    with pytest.raises(ConfigError, match="give the file with --config"):
        load_config(tmp_path / "none.toml")


def test_alerts_may_have_a_broker_of_their_own(tmp_path: Path) -> None:
    """With the keys of [mqtt], and mistakes told with their table."""
    table = '[mqtt]\nhost = "plant"\n[mqtt.alerts]\nhost = "cloud"\ntls = true\n'
    config = load_config(_write(tmp_path, table + GOOD))
    assert config.mqtt.alerts is not None
    assert (config.mqtt.host, config.mqtt.alerts.host, config.mqtt.alerts.uses_tls) == ("plant", "cloud", True)
    with pytest.raises(ConfigError) as caught:
        load_config(_write(tmp_path, table + 'prot = 1\nport = 0\ncert_file = "x"\n' + GOOD))
    told = str(caught.value)
    assert "[mqtt] [alerts] prot: unknown key; did you mean 'port'?" in told
    assert "[mqtt] [alerts] port = 0: expected an integer from 1 to 65535" in told
    with pytest.raises(ConfigError, match=r"\[mqtt\] \[alerts\] cert_file and key_file: give both or none"):
        load_config(_write(tmp_path, table + 'cert_file = "x"\n' + GOOD))


def test_a_stream_reads_a_topic_or_an_input(tmp_path: Path) -> None:
    """One of them, and no input twice."""
    streams = """
    [[stream]]
    name = "one"
    bundle = "b"
    [[stream]]
    name = "two"
    bundle = "b"
    topic = "t/+"
    input = "-"
    [[stream]]
    name = "three"
    bundle = "b"
    input = "-"
    [[stream]]
    name = "four"
    bundle = "b"
    input = "-"
    """
    config = tmp_path / "agent.toml"
    config.write_text(f'[agent]\nstate_dir = "{tmp_path}"\n{streams}')
    with pytest.raises(ConfigError) as failed:
        load_config(config)
    assert "1 topic: is missing" in str(failed.value)
    assert "2 topic, input: readings come from one of them" in str(failed.value)
    assert "input = '-': used by an earlier stream too" in str(failed.value)


@pytest.mark.parametrize(
    "text", ["x = " + "9" * 5000, "x = " + "[" * 5000, "[" + ".".join("a" * 5000) + "]", "#" * (2 << 20)]
)
def test_what_python_itself_gives_up_on_is_no_configuration(tmp_path: Path, text: str) -> None:
    """An integer of thousands of digits, and tables and lists thousands deep: one line, and no traceback."""
    file = tmp_path / "agent.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert all(line.startswith(f"{file}: ") for line in str(caught.value).splitlines())


def test_relative_paths_begin_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key that is a path, wherever the process works; what is absolute, or the standard input, stays."""
    for name in ("ca.crt", "agent.crt", "agent.key", "user", "password"):
        (tmp_path / name).write_text("x")
    tls = 'ca_file = "ca.crt"\ncert_file = "agent.crt"\nkey_file = "agent.key"\n'
    text = (
        '[agent]\nstate_dir = "state"\nruntime_dir = "run"\n'
        f'[mqtt]\n{tls}username_file = "user"\npassword_file = "password"\n'
        f'[mqtt.alerts]\nhost = "b"\n{tls}username_file = "user"\npassword_file = "password"\n'
        f'[[engine.custom_ops]]\npath = "lib.so"\nsha256 = "{HASH}"\n'
        '[[stream]]\nname = "pump"\nbundle = "../pump.edge"\ninput = "pipe"\n'
        '[[stream]]\nname = "fan"\nbundle = "/srv/fan.edge"\ninput = "-"\n'
    )
    file = _write(tmp_path, text)
    monkeypatch.chdir("/")
    config = load_config(file)
    assert config.mqtt.alerts is not None
    assert (config.agent.state_dir, config.agent.runtime_dir) == (f"{tmp_path}/state", f"{tmp_path}/run")
    for broker in (config.mqtt, config.mqtt.alerts):
        given = (broker.ca_file, broker.cert_file, broker.key_file, broker.username_file, broker.password_file)
        assert given == tuple(f"{tmp_path}/{name}" for name in ("ca.crt", "agent.crt", "agent.key", "user", "password"))
    assert [allowed.path for allowed in config.engine.custom_ops] == [f"{tmp_path}/lib.so"]
    pump, fan = config.streams
    assert (pump.bundle, pump.input) == (f"{tmp_path}/../pump.edge", f"{tmp_path}/pipe")
    assert (fan.bundle, fan.input) == ("/srv/fan.edge", "-")


def test_every_key_that_names_a_place_is_a_path() -> None:
    """A new one must not begin at the working folder because it was declared as any text."""
    kinds: list[type[msgspec.Struct]] = [*SECTIONS.values(), StreamSection]
    found = {field.name for kind in kinds for field in msgspec.structs.fields(kind) if is_path(field.type)}
    named = {
        field.name
        for kind in kinds
        for field in msgspec.structs.fields(kind)
        if field.name.endswith(("_file", "_dir", "bundle", "input", "keys"))
    }
    assert found == named - {"allow_unsafe_state_dir"}


def test_a_path_behind_set_begins_at_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every path on a command line."""
    monkeypatch.chdir("/")
    config = load_config(_write(tmp_path, GOOD), ("agent.state_dir=state",))
    assert config.agent.state_dir == "state"
