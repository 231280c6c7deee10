"""Archives for devices that are not this machine: the right wheels, all that they need, and the same bytes twice."""

from __future__ import annotations

import email
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from fakes import write_bundle
from processes import run_tool

import edgetool
from edge_agent.errors import ConfigError, UsageError
from edgetool.deployment.remote import is_device

CONFIG = '[mqtt]\nhost = "b"\n[[stream]]\nname = "pump"\nbundle = "square-1.0.0.edge"\ntopic = "sensors/+/pump"\n'
ELF_MACHINES = {62: "x86_64", 183: "aarch64"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "agent.toml").write_text(CONFIG)
    return write_bundle(tmp_path / "square-1.0.0.edge")


def plain(name: str) -> str:
    """A package's name as the registry compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("machine", "python", "runtime"),
    [("aarch64", "3.11", "cpu"), ("aarch64", "3.13", "cpu"), ("x86_64", "3.13", "openvino")],
)
def test_an_archive_is_whole_and_for_its_machine(
    bundle: Path, tmp_path: Path, machine: str, python: str, runtime: str
) -> None:
    """Every library is for that machine, every hash is right, and no package lacks one that it needs."""
    report = edgetool.deploy(
        [bundle],
        config=tmp_path / "agent.toml",
        to=str(tmp_path / "out"),
        machine=machine,
        python=python,
        runtime=runtime,
    )
    with tarfile.open(report.archive) as archive:
        archive.extractall(tmp_path / "seen", filter="fully_trusted")
    root = tmp_path / "seen" / report.archive.name.removesuffix(".tar.gz")
    packages = root / "program" / "lib" / f"python{python}" / "site-packages"
    machines = {
        ELF_MACHINES[int.from_bytes(content[18:20], "little")]
        for content in (path.read_bytes() for path in packages.rglob("*.so*") if path.is_file())
        if content[:4] == b"\x7fELF"
    }
    assert machines == {machine}
    tags = {match[1] for path in packages.rglob("*.cpython-*.so") if (match := re.search(r"cpython-(\d+)", path.name))}
    assert tags == {python.replace(".", "")}
    for line in (root / "SHA256SUMS").read_text().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256((root / name).read_bytes()).hexdigest() == digest
    told = [email.message_from_bytes(path.read_bytes()) for path in packages.glob("*.dist-info/METADATA")]
    there = {plain(package["Name"]) for package in told}
    needed = {
        plain(re.match(r"[\w.-]+", line)[0])  # type: ignore[index]
        for package in told
        for line in package.get_all("Requires-Dist", [])
        if "extra ==" not in line and "python_version <" not in line
    }
    assert needed - there <= {"coloredlogs"}, "a dependency that its package does not import"
    licences = [path for path in packages.rglob("*") if re.match(r"(?i)licen[cs]e|notice", path.name)]
    assert len(licences) >= len(there) - 2


def test_the_same_is_deployed_in_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    """So that two people can see that they install the same."""
    made = [
        edgetool.deploy([bundle], config=tmp_path / "agent.toml", to=str(tmp_path / name)).archive.read_bytes()
        for name in ("one", "two")
    ]
    assert made[0] == made[1]


def test_what_cannot_be_deployed_is_refused_before_anything_is_fetched(bundle: Path, tmp_path: Path) -> None:
    """A device for which there are no wheels, a bundle that is not given or that nobody names, a bad configuration."""
    config = tmp_path / "agent.toml"
    for options, problem in (
        ({"machine": "armv7l"}, "--arch armv7l: expected one of x86_64, aarch64"),
        ({"python": "3"}, "--python 3: expected a version such as 3.11"),
        ({"machine": "aarch64", "runtime": "openvino"}, "--runtime openvino"),
    ):
        with pytest.raises(UsageError, match=re.escape(problem)):
            edgetool.deploy([bundle], config=config, to=str(tmp_path), **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"stream pump: square-1.0.0.edge is not among the bundles given"):
        edgetool.deploy([], config=config, to=str(tmp_path))
    other = write_bundle(tmp_path / "other-1.0.0.edge")
    with pytest.raises(UsageError, match=r"other-1.0.0.edge: no stream of .* names it"):
        edgetool.deploy([bundle, other], config=config, to=str(tmp_path))
    assert not list(tmp_path.glob("*.tar.gz"))


def test_a_name_alone_is_a_folder_only_where_there_is_one(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a device of which ssh knows the user; both are written out, and no folder is made of it."""
    monkeypatch.chdir(tmp_path)
    for to, both in (
        ("press-7", "give ./press-7 for a folder that is to be made, or USER@press-7 for a device, or ssh://press-7 "),
        ("agent.toml", "--to agent.toml: there is no such folder"),
    ):
        for deb in (False, True):
            with pytest.raises(UsageError, match=re.escape(both)):
                edgetool.deploy([bundle], config="agent.toml", to=to, deb=deb)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.toml", bundle.name]
    (tmp_path / "there").mkdir()
    assert not any(is_device(to) for to in ("there", "./press-7", "press-7/", "./root@press-7"))
    assert is_device("root@press-7")
    assert is_device("ssh://press-7")
    assert edgetool.deploy([bundle], config="agent.toml", to="./press-7").archive.parent == Path("press-7")


def test_what_the_configuration_names_is_taken_along_but_for_secrets(bundle: Path, tmp_path: Path) -> None:
    """Certificates and libraries beside it; of a secret, and of what the device has by itself, there is a line."""
    for name in ("ca.crt", "agent.crt", "agent.key", "password", "operators.so"):
        (tmp_path / name).write_text(name)
    tls = 'ca_file = "ca.crt"\ncert_file = "/etc/edge-agent/agent.crt"\nkey_file = "agent.key"\nusername = "p"\n'
    tls += 'password_file = "/etc/edge-agent/password"\n[mqtt.alerts]\nhost = "c"\nca_file = "/etc/ssl/plant.crt"\n'
    tls += f'[[engine.custom_ops]]\npath = "operators.so"\nsha256 = "{"0" * 64}"\n'
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG.replace('host = "b"\n', f'host = "b"\n{tls}'))
    done = run_tool("edgetool", "deploy", bundle, "--config", config, "--to", tmp_path, "--python", "3.12")
    assert done.returncode == 0, done.stderr
    for key, rest in (
        ("[mqtt] key_file", "credentials/mqtt-key, and leave the key out"),
        ("[mqtt] password_file", "credentials/mqtt-password, and leave the key out"),
        ("[mqtt.alerts] ca_file = '/etc/ssl/plant.crt'", "has to be on the device already"),
    ):
        assert any(key in line and line.endswith(rest) for line in done.stdout.splitlines()), done.stdout
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="fully_trusted")
    root = tmp_path / archive.name.removesuffix(".tar.gz")
    there = {path.name for path in (root / "files").iterdir()}
    assert there == {"agent.toml", "square-1.0.0.edge", "ca.crt", "agent.crt", "operators.so"}
    for name in ("ca.crt", "agent.crt", "operators.so"):
        assert f'--file "$here"/files/{name}' in (root / "install.sh").read_text()
    # As it says: the keys that name secrets are left out.
    config.write_text(
        "".join(
            line for line in config.read_text().splitlines(True) if "key_file" not in line and "password" not in line
        )
    )
    assert edgetool.deploy([bundle], config=config, to=str(tmp_path)).wanted == (
        "[mqtt.alerts] ca_file = '/etc/ssl/plant.crt' has to be on the device already",
    )
    (tmp_path / "ca.crt").unlink()
    with pytest.raises(ConfigError, match=r"\[mqtt\] ca_file = .*ca.crt': no such file"):
        edgetool.deploy([bundle], config=config, to=str(tmp_path))
    config.write_text(config.read_text().replace('"ca.crt"', '"certificates/ca.crt"'))
    with pytest.raises(ConfigError, match=r"would not be found on the device, .* write 'ca.crt'"):
        edgetool.deploy([bundle], config=config, to=str(tmp_path))


def test_a_damaged_archive_and_another_machine_are_told_by_the_installer(bundle: Path, tmp_path: Path) -> None:
    """In one line each, before Python runs anything of it."""
    done = run_tool(
        "edgetool", "deploy", bundle, "--config", tmp_path / "agent.toml", "--to", tmp_path, "--arch", "aarch64"
    )
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="fully_trusted")
    root = tmp_path / archive.name.removesuffix(".tar.gz")
    installing = ["sh", str(root / "install.sh"), "--dry-run", "--no-start"]
    said = subprocess.run(installing, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (69, "")
    assert said.stderr.startswith("install.sh: this archive is for aarch64, and this device is ")
    installer = root / "install.sh"
    installer.write_text(installer.read_text().replace("machine=$(uname -m)", "machine=aarch64"))
    said = subprocess.run(installing, capture_output=True, text=True, check=False)
    assert said.returncode == 69
    assert "install.sh: the archive is damaged" in said.stderr


@pytest.mark.skipif(
    shutil.which("dpkg-deb") is None and "CI" not in os.environ,
    reason="only Debian's own tool can say whether this is a package",
)
def test_a_debian_package_is_one_to_dpkg(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its control file, what it installs, what an upgrade keeps, every sum; and the same bytes twice."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764460800")
    made = [
        edgetool.deploy(
            [bundle],
            config=tmp_path / "agent.toml",
            to=str(tmp_path / name),
            machine="aarch64",
            python="3.13",
            deb=True,
        ).archive
        for name in ("one", "two")
    ]
    assert made[0].name == "edge-agent_0.1.0-20251130000000_arm64.deb"
    assert made[0].read_bytes() == made[1].read_bytes()
    fields = subprocess.run(["dpkg-deb", "--field", made[0]], capture_output=True, text=True, check=True).stdout
    told = email.message_from_string(fields)
    assert (told["Package"], told["Architecture"], told["Version"]) == ("edge-agent", "arm64", "0.1.0-20251130000000")
    assert told["Depends"] == "python3.13, libc6 (>= 2.28), init-system-helpers"
    subprocess.run(["dpkg-deb", "--raw-extract", made[0], tmp_path / "seen"], check=True)
    seen = tmp_path / "seen"
    assert (
        seen / "DEBIAN" / "conffiles"
    ).read_text() == "/etc/edge-agent/agent.toml\n/etc/edge-agent/square-1.0.0.edge\n"
    assert (seen / "usr/bin/edge-agent").readlink() == Path("/opt/edge-agent/current/bin/edge-agent")
    assert (seen / "usr/lib/systemd/system/edge-agent.service").is_file()
    sums = (seen / "DEBIAN" / "md5sums").read_text().splitlines()
    for line in sums:
        digest, _, name = line.partition("  ")
        assert hashlib.md5((seen / name).read_bytes()).hexdigest() == digest
    files = [
        path for path in seen.rglob("*") if path.is_file() and not path.is_symlink() and "DEBIAN" not in path.parts
    ]
    assert len(files) == len(sums)
    for script in ("preinst", "postinst", "prerm", "postrm"):
        subprocess.run(["sh", "-n", seen / "DEBIAN" / script], check=True)


@pytest.mark.parametrize(("machine", "python"), [("x86_64", "3.11"), ("aarch64", "3.13")])
def test_what_speaks_to_devices_is_in_the_archive_of_who_asks_them(
    bundle: Path, tmp_path: Path, machine: str, python: str
) -> None:
    """By the extras of the streams' inputs and of the outputs, with all that these need, and of no others."""
    config = tmp_path / "agent.toml"
    text = config.read_text()
    topic = re.search(r"^topic = .*$", text, re.MULTILINE)
    assert topic is not None
    nodes = '[stream.opcua.nodes]\nc1 = "ns=2;s=p"\n'
    text = text.replace(topic[0], 'input = "opc.tcp://127.0.0.1:4840"') + f"\n{nodes}"
    config.write_text(f'{text}[metrics]\nlisten = "127.0.0.1:9464"\n')
    report = edgetool.deploy([bundle], config=config, to=str(tmp_path / "out"), machine=machine, python=python)
    with tarfile.open(report.archive) as archive:
        names = archive.getnames()
    packages = {name.split("/site-packages/")[1].split("/")[0] for name in names if "/site-packages/" in name}
    assert {"asyncua", "cryptography", "sortedcontainers", "prometheus_client"} <= packages
    assert not {"pymodbus", "nacl"} & packages


@pytest.mark.parametrize(("machine", "python"), [("x86_64", "3.14"), ("aarch64", "3.11")])
def test_public_keys_go_along_and_what_checks_signatures(
    bundle: Path, tmp_path: Path, machine: str, python: str
) -> None:
    """And a bundle that the device would not open is refused here."""
    config, keys = tmp_path / "agent.toml", edgetool.keygen(tmp_path / "plant")
    config.write_text(f'{config.read_text()}\n[trust]\nkeys = ["plant.pub"]\n')
    with pytest.raises(edgetool.TrustError, match="is not signed"):
        edgetool.deploy([bundle], config=config, to=str(tmp_path / "out"), machine=machine, python=python)
    edgetool.sign(bundle, key=keys.key)
    report = edgetool.deploy([bundle], config=config, to=str(tmp_path / "out"), machine=machine, python=python)
    assert "plant.pub" in report.files
    with tarfile.open(report.archive) as archive:
        names = archive.getnames()
    packages = {name.split("/site-packages/")[1].split("/")[0] for name in names if "/site-packages/" in name}
    assert {"nacl", "cffi"} <= packages
    assert "cryptography" not in packages
    assert not [name for name in names if name.endswith(".key")]
