"""Keys and signatures on the command line, and what openssl says of them."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fakes import write_bundle
from processes import program, run_tool, tool

import edgetool
from edge_agent.errors import TrustError, UsageError


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [program("openssl"), *map(str, arguments)],
        capture_output=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "square-1.0.0.edge")


def test_a_bundle_is_signed_and_verified(tmp_path: Path, bundle: Path) -> None:
    """Its parts stay byte for byte, and the same key makes the same file again."""
    with zipfile.ZipFile(bundle) as archive:
        before = {name: archive.read(name) for name in archive.namelist()}
    made = run_tool("edgetool", "keygen", tmp_path / "plant", "--json")
    assert made.returncode == 0, made.stderr
    key_id = json.loads(made.stdout)["key_id"]
    assert (tmp_path / "plant.key").stat().st_mode & 0o777 == 0o600
    signed = run_tool("edgetool", "sign", bundle, "--key", tmp_path / "plant.key")
    assert (signed.returncode, signed.stdout) == (0, f"{bundle}: square 1.0.0 signed by {key_id}\n")
    first = bundle.read_bytes()
    again = run_tool("edgetool", "sign", bundle, "--key", tmp_path / "plant.key")
    assert "(replaces the signature that was there)" in again.stdout
    assert bundle.read_bytes() == first
    with zipfile.ZipFile(bundle) as archive:
        assert {name: archive.read(name) for name in archive.namelist() if name != "manifest.sig"} == before
    asked = run_tool("edgetool", "verify", bundle, "--key", tmp_path / "plant.pub", "--json")
    assert asked.returncode == 0, asked.stderr
    report = json.loads(asked.stdout)
    assert (report["key_id"], report["sha256"]) == (key_id, hashlib.sha256(first).hexdigest())
    assert f"signed     by {key_id}" in run_tool("edgetool", "inspect", bundle, "--key", tmp_path / "plant.pub").stdout
    assert "signed     by whom it does not say" in run_tool("edgetool", "inspect", bundle).stdout


def test_openssl_checks_what_we_sign_and_makes_keys_for_it(tmp_path: Path, bundle: Path) -> None:
    """Whoever does not believe us needs nothing of ours."""
    key, public = tmp_path / "o.key", tmp_path / "o.pub"
    assert openssl("genpkey", "-algorithm", "ed25519", "-out", key).returncode == 0
    assert openssl("pkey", "-in", key, "-pubout", "-out", public).returncode == 0
    edgetool.sign(bundle, key=key)
    assert edgetool.verify_bundle(bundle, keys=public).key == public
    with zipfile.ZipFile(bundle) as archive:
        for name in ("manifest.json", "manifest.sig"):
            (tmp_path / name).write_bytes(archive.read(name))
    command = ("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-sigfile", tmp_path / "manifest.sig", "-in")
    assert openssl(*command, tmp_path / "manifest.json").returncode == 0
    (tmp_path / "altered.json").write_bytes((tmp_path / "manifest.json").read_bytes() + b" ")
    assert openssl(*command, tmp_path / "altered.json").returncode != 0


def test_openssl_reads_our_keys(tmp_path: Path, bundle: Path) -> None:
    """Both halves, and a passphrase."""
    (tmp_path / "word").write_text("a long one\nand no more\n")
    report = edgetool.keygen(tmp_path / "plant", passphrase="a long one")
    assert report.is_encrypted
    derived = openssl("pkey", "-in", report.key, "-passin", f"file:{tmp_path / 'word'}", "-pubout")
    assert derived.stdout == report.public.read_bytes()
    signed = run_tool("edgetool", "sign", bundle, "--key", report.key, "--passphrase-file", tmp_path / "word")
    assert signed.returncode == 0, signed.stderr
    (tmp_path / "word").write_text("another one\n")
    wrong = run_tool("edgetool", "sign", bundle, "--key", report.key, "--passphrase-file", tmp_path / "word")
    assert (wrong.returncode, "another passphrase, or damaged" in wrong.stderr) == (2, True)
    with pytest.raises(UsageError, match="has a passphrase; give it: --passphrase-file"):
        edgetool.sign(bundle, key=report.key)
    with pytest.raises(UsageError, match="the passphrase has 5 characters, expected at least 8"):
        edgetool.keygen(tmp_path / "weak", passphrase="short")


def test_a_passphrase_is_asked_for_on_a_terminal(tmp_path: Path, bundle: Path) -> None:
    """And shown nowhere."""
    report = edgetool.keygen(tmp_path / "plant", passphrase="a long one")
    ours, theirs = pty.openpty()
    command = [tool("edgetool"), "sign", str(bundle), "--key", str(report.key)]
    # A session of its own, so that its terminal is this one.
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    try:
        while not shown.endswith(b": "):
            shown += os.read(ours, 1000)
        os.write(ours, b"a long one\n")
        assert process.wait(timeout=60) == 0
        shown += os.read(ours, 1000)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"passphrase of" in shown
    assert b"a long one" not in shown
    assert edgetool.verify_bundle(bundle, keys=report.public).key_id == report.key_id


def test_no_key_is_replaced(tmp_path: Path) -> None:
    """Neither half: what it has signed needs it."""
    edgetool.keygen(tmp_path / "plant")
    (tmp_path / "plant.key").rename(tmp_path / "away.key")
    again = run_tool("edgetool", "keygen", tmp_path / "plant")
    assert (again.returncode, "plant.pub: is there already, and is not replaced" in again.stderr) == (2, True)
    assert not (tmp_path / "plant.key").exists()


@pytest.mark.parametrize("kind", [("rsa",), ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), ("ed448",)])
def test_a_key_of_another_kind_is_refused(tmp_path: Path, bundle: Path, kind: tuple[str, ...]) -> None:
    """Both halves; there is one kind of signature."""
    key, public = tmp_path / "o.key", tmp_path / "o.pub"
    assert openssl("genpkey", "-algorithm", *kind, "-out", key).returncode == 0
    assert openssl("pkey", "-in", key, "-pubout", "-out", public).returncode == 0
    with pytest.raises(UsageError, match="is a key of another kind, expected Ed25519"):
        edgetool.sign(bundle, key=key)
    with pytest.raises(UsageError, match="is a key of another kind, expected Ed25519"):
        edgetool.verify_bundle(bundle, keys=public)


def test_verify_says_no_with_65(tmp_path: Path, bundle: Path) -> None:
    """To no signature, another key's, and another version of the manifest."""
    ours, theirs = edgetool.keygen(tmp_path / "ours"), edgetool.keygen(tmp_path / "theirs")
    unsigned = run_tool("edgetool", "verify", bundle, "--key", ours.public)
    assert (unsigned.returncode, unsigned.stderr) == (
        65,
        f"edgetool: {bundle}: is not signed; sign it: edgetool sign\n",
    )
    edgetool.sign(bundle, key=theirs.key)
    with pytest.raises(TrustError, match="its signature is not by the key"):
        edgetool.verify_bundle(bundle, keys=ours.public)
    assert edgetool.verify_bundle(bundle, keys=[ours.public, theirs.public]).key_id == theirs.key_id


def test_a_version_that_cannot_be_sent_is_told(tmp_path: Path) -> None:
    """Only semantic versions have an order."""
    bundle = write_bundle(tmp_path / "square-1.edge", changes={"version": "1"})
    report = edgetool.sign(bundle, key=edgetool.keygen(tmp_path / "ours").key)
    assert report.warnings == (
        "1 is no semantic version, such as 1.2.0: devices run it from a file, and take it as no update over the broker",
    )


def test_new_limits_have_to_be_signed_again(tmp_path: Path, bundle: Path) -> None:
    """The signature was of the old ones."""
    keys = edgetool.keygen(tmp_path / "ours")
    edgetool.sign(bundle, key=keys.key)
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 0.5, (400, 2))
    (tmp_path / "calm.csv").write_text("c1,c2\n" + "".join(f"{a:.4f},{b:.4f}\n" for a, b in rows))
    new = tmp_path / "square-1.0.1.edge"
    report = edgetool.calibrate(bundle, new, data=tmp_path / "calm.csv")
    assert f"{bundle} is signed, and the new one is not yet: edgetool sign {new} --key FILE" in report.warnings()
    with pytest.raises(TrustError, match="is not signed"):
        edgetool.verify_bundle(new, keys=keys.public)
    edgetool.sign(new, key=keys.key)
    assert edgetool.verify_bundle(new, keys=keys.public).version == "1.0.1"


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_key_that_others_may_read_is_warned_of(tmp_path: Path, bundle: Path, mode: int, warned: bool) -> None:
    """It is used all the same; one with a passphrase may lie anywhere."""
    key = tmp_path / "plant.key"
    assert run_tool("edgetool", "keygen", tmp_path / "plant").returncode == 0
    key.chmod(mode)
    done = run_tool("edgetool", "sign", bundle, "--key", key)
    assert done.returncode == 0
    assert ("others on this machine may read it" in done.stderr) is warned


def test_the_public_half_signs_nothing_and_may_be_read_by_all(tmp_path: Path, bundle: Path) -> None:
    """The two files lie beside each other, and one letter more is typed soon."""
    assert run_tool("edgetool", "keygen", tmp_path / "plant").returncode == 0
    done = run_tool("edgetool", "sign", bundle, "--key", tmp_path / "plant.pub")
    assert done.returncode == 2
    assert "is the public half; what signs is the private one, plant.key" in done.stderr
    assert "chmod" not in done.stderr


@pytest.mark.parametrize("passphrase", [None, "a long passphrase"])
def test_keys_may_come_through_a_pipe(passphrase: str | None, tmp_path: Path, bundle: Path) -> None:
    """As of a shell's <(…), by which a safe for secrets gives one and no disk has it: it can be read once."""
    keys = edgetool.keygen(tmp_path / "plant", passphrase=passphrase)
    options: list[str | Path] = []
    if passphrase is not None:
        (tmp_path / "passphrase").write_text(passphrase)
        options = ["--passphrase-file", tmp_path / "passphrase"]
    for command, file in (("sign", keys.key), ("verify", keys.public)):
        pipe = tmp_path / f"{command}.pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(file.read_bytes(),), daemon=True)
        writer.start()
        done = run_tool("edgetool", command, bundle, "--key", pipe, *(options if command == "sign" else []))
        assert done.returncode == 0, done.stderr
        writer.join(10)
