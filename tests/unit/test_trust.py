"""Nothing is looked at that nobody has signed: keys, wishes and bundles."""

from __future__ import annotations

import base64
import json
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fakes import write_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgetool
from edge_agent.bundle import open_bundle
from edge_agent.config.load import load_config
from edge_agent.config.trust import trust_remarks, trusted_keys
from edge_agent.errors import BundleError, ConfigError, MissingExtraError, TrustError
from edge_agent.trust import WISH_LIMIT_BYTES, Keys, load_keys, parse_public_key, public_key_problem, read_wish
from edgetool.signing import PrivateKey, read_private_key, sign_wish

OF_RFC_8410 = b"""\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""
WISH = {"agent": "press-7", "stream": "pump", "kind": "recommission", "sequence": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two pairs of keys, `ours` and `theirs`."""
    found = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        edgetool.keygen(found / name)
    return found


@pytest.fixture
def key(folder: Path) -> PrivateKey:
    return read_private_key(folder / "ours.key")


@pytest.fixture
def other(folder: Path) -> PrivateKey:
    return read_private_key(folder / "theirs.key")


@pytest.fixture
def keys(key: PrivateKey) -> Keys:
    return Keys([key.public])


# Keys ---------------------------------------------------------------------------------------------------------------


def test_the_key_of_the_standard_is_read() -> None:
    """The example of RFC 8410, with what stands around it in a file."""
    key = parse_public_key(b"of the plant\r\n" + OF_RFC_8410.replace(b"\n", b"\r\n") + b"\nend")
    assert key.raw.hex() == "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
    assert key.id == "e744c0791320c328"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "is no public key: expected PEM"),
        (OF_RFC_8410[:60], "is no public key: expected PEM"),
        (OF_RFC_8410.replace(b"MCow", b"MC!w"), "is no public key: "),
        (OF_RFC_8410.replace(b"MCowBQYDK2Vw", b"MCowBQYDK2Vu"), "is a key of another kind, expected Ed25519"),
        (OF_RFC_8410.replace(b"MCowBQYDK2VwAyEA", b""), "is a key of another kind, expected Ed25519"),
        (OF_RFC_8410.replace(b"PUBLIC", b"PRIVATE"), "is a private key, which no device may have"),
        (b"x" * 5000, "is no public key: it has more than 4096 bytes"),
    ],
)
def test_what_is_no_public_key_is_told(tmp_path: Path, text: bytes, problem: str) -> None:
    """With what it is instead."""
    path = tmp_path / "some.pub"
    path.write_bytes(text)
    assert problem in str(public_key_problem(path))
    with pytest.raises(ConfigError) as caught:
        load_keys([path, tmp_path / "none.pub"])
    assert len(caught.value.lines) == 2
    assert caught.value.lines[1] == f"{tmp_path}/none.pub: cannot be read (No such file or directory)"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_no_text_is_a_key_by_chance(text: bytes) -> None:
    """Whatever is in the file, there is a key or a reason."""
    problem = ""
    try:
        found = parse_public_key(text).raw
    except ValueError as exc:
        found, problem = b"", str(exc)
    assert len(found) == 32 or problem.startswith("is ")


def test_the_key_that_signed_is_named(key: PrivateKey, other: PrivateKey) -> None:
    """Of several, in any order; a signature is of its content alone."""
    both = Keys([other.public, key.public])
    assert both.ids == (other.public.id, key.public.id)
    assert both.check(b"content", key.sign(b"content")) == key.public.id
    assert both.check(b"content", other.sign(b"content")) == other.public.id
    with pytest.raises(TrustError, match=r"its signature is not by one of the keys .*, or it was altered"):
        both.check(b"contend", key.sign(b"content"))
    with pytest.raises(TrustError, match="not by that key"):
        both.check(b"content", key.sign(b"content"), other.public.id)
    with pytest.raises(TrustError, match="its signature has 63 bytes, expected 64"):
        both.check(b"content", key.sign(b"content")[1:])


# Wishes -------------------------------------------------------------------------------------------------------------


def test_a_wish_comes_as_it_was_signed(key: PrivateKey, keys: Keys) -> None:
    """Byte for byte, for whoever reads it then."""
    assert json.loads(read_wish(sign_wish(WISH, key), keys)) == WISH


def envelope(message: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(message), **changes}).encode()


def test_what_nobody_trusted_has_signed_is_no_wish(key: PrivateKey, other: PrivateKey, keys: Keys) -> None:
    """Neither another key's, nor one that was altered, nor a manifest's signature, nor rubbish."""
    good = sign_wish(WISH, key)
    text = json.loads(good)["wish"]
    over_itself = base64.b64encode(key.sign(text.encode())).decode()
    wrong = {
        "is signed by the key .*, which is not trusted here": sign_wish(WISH, other),
        "its signature is not by that key, or it was altered": envelope(good, wish=text.replace("press-7", "press-8")),
        "not by that key": envelope(sign_wish(WISH, other), key=key.public.id),
        "not by that key,": envelope(good, signature=over_itself),
        "signature has 3 bytes": envelope(good, signature="AAAA"),
        "is no signed message: ": envelope(good, signature="?" * 88),
        "is no signed message: .*wish": b"{}",
        "is no signed message: Input data was truncated": b"",
        "is no signed message: JSON is malformed": b"\x00",
        "is no signed message: Object missing": text.encode(),
        "is no signed message": b"[" * 60000,
        "a signed message has at most 65536 bytes": good + b" " * WISH_LIMIT_BYTES,
    }
    for problem, message in wrong.items():
        with pytest.raises(TrustError, match=problem):
            read_wish(message, keys)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_byte_of_a_wish_can_be_changed(key: PrivateKey, keys: Keys, data: st.DataObject) -> None:
    """What still passes says the same."""
    good = sign_wish(WISH, key)
    place = data.draw(st.integers(0, len(good) - 1))
    changed = bytes([*good[:place], good[place] ^ data.draw(st.integers(1, 255)), *good[place + 1 :]])
    with suppress(TrustError):
        assert json.loads(read_wish(changed, keys)) == WISH


# Bundles ------------------------------------------------------------------------------------------------------------


def rewrite(path: Path, **members: bytes | None) -> None:
    """Replace members of a bundle by their stems; None takes one out."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    for stem, value in members.items():
        name = next(each for each in ("manifest.json", "manifest.sig", "model.onnx") if each.endswith(stem))
        content.pop(name, None)
        content |= {} if value is None else {name: value}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)


@pytest.fixture
def signed(tmp_path: Path, folder: Path) -> Path:
    path = write_bundle(tmp_path / "square-1.0.0.edge")
    edgetool.sign(path, key=folder / "ours.key")
    return path


def test_a_signed_bundle_opens_for_those_who_trust_its_key(signed: Path, keys: Keys, key: PrivateKey) -> None:
    """And for those who ask nobody, as before."""
    assert open_bundle(signed, keys).signed_by == key.public.id
    unasked = open_bundle(signed)
    assert (unasked.is_signed, unasked.signed_by) == (True, "")
    assert unasked.manifest_sha256 == open_bundle(signed, keys).manifest_sha256


def test_a_bundle_without_a_good_signature_is_never_opened(signed: Path, keys: Keys, other: PrivateKey) -> None:
    """Of nobody, of another key, and of another manifest, which is not even parsed."""
    with zipfile.ZipFile(signed) as archive:
        manifest, signature = archive.read("manifest.json"), archive.read("manifest.sig")
    tries: list[tuple[dict[str, bytes | None], str]] = [
        ({"sig": other.sign(manifest)}, f"{signed}: its signature is not by the key {keys.ids[0]}, or it was altered"),
        ({"json": b"[" * 1000, "sig": signature}, "its signature is not by the key"),
        ({"json": manifest.replace(b"square", b"Square")}, "its signature is not by the key"),
        ({"json": manifest, "sig": signature[:-1]}, "its signature has 63 bytes, expected 64"),
        ({"sig": b"x" * 100_000}, "manifest.sig would have 100000 bytes, at most 64 are read"),
        ({"sig": None}, f"{signed}: is not signed; sign it: edgetool sign"),
    ]
    for members, problem in tries:
        rewrite(signed, **members)
        with pytest.raises(TrustError) as caught:
            open_bundle(signed, keys)
        assert problem in str(caught.value)


def test_every_part_is_what_was_signed(signed: Path, keys: Keys) -> None:
    """The manifest names the hash of each."""
    with zipfile.ZipFile(signed) as archive:
        model = archive.read("model.onnx")
    rewrite(signed, onnx=bytes([model[0] ^ 1]) + model[1:])
    with pytest.raises(BundleError, match=r"model.onnx differs from its manifest"):
        open_bundle(signed, keys)


# Configuration ------------------------------------------------------------------------------------------------------

STREAM = '[[stream]]\nname = "pump"\nbundle = "square-1.0.0.edge"\ntopic = "sensors/+/pump"\n'


def configure(folder: Path, trust: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(f'[agent]\nstate_dir = "."\n{trust}\n{STREAM}')
    return path


def test_keys_are_named_from_the_folder_of_the_configuration(tmp_path: Path, folder: Path, key: PrivateKey) -> None:
    """Several, for rotation; without the table, nobody is asked."""
    (tmp_path / "ours.pub").write_bytes((folder / "ours.pub").read_bytes())
    config = load_config(configure(tmp_path, f'[trust]\nkeys = ["ours.pub", "{folder}/theirs.pub"]'))
    assert config.trust.keys == (f"{tmp_path}/ours.pub", f"{folder}/theirs.pub")
    keys = trusted_keys(config.trust)
    assert keys is not None
    assert keys.ids[0] == key.public.id
    assert trusted_keys(load_config(configure(tmp_path, "")).trust) is None


@pytest.mark.parametrize(
    ("trust", "problem"),
    [
        ("[trust]", "[trust] keys: is missing"),
        ("[trust]\nkeys = []", "[trust] keys = []: expected a list of 1 to 50 files with public keys"),
        ('[trust]\nkeys = "a.pub"', "expected a list of 1 to 50 files with public keys"),
        ('[trust]\nkeys = ["none.pub"]', "/none.pub': cannot be read (No such file or directory)"),
        ('[trust]\nkeys = ["agent.toml"]', "/agent.toml': is no public key: expected PEM"),
        ('[trust]\nkey = ["a.pub"]', "[trust] key: unknown key; did you mean 'keys'?"),
    ],
)
def test_a_wrong_table_of_trust_is_told(tmp_path: Path, trust: str, problem: str) -> None:
    """An empty list is no way to trust nobody by chance."""
    with pytest.raises(ConfigError) as caught:
        load_config(configure(tmp_path, trust))
    assert problem in str(caught.value)


def test_a_key_that_others_may_write_to_is_a_remark(tmp_path: Path, folder: Path) -> None:
    """They could put their own in its place."""
    path = tmp_path / "ours.pub"
    path.write_bytes((folder / "ours.pub").read_bytes())
    path.chmod(0o664)
    settings = load_config(configure(tmp_path, '[trust]\nkeys = ["ours.pub"]')).trust
    assert trust_remarks(settings) == [f"keys = '{path}': others than its owner may write to it; chmod go-w"]
    path.chmod(0o644)
    assert trust_remarks(settings) == []


def test_a_device_without_the_extra_is_told_which(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is opened because nobody could ask."""
    monkeypatch.setitem(sys.modules, "nacl.signing", None)
    with pytest.raises(MissingExtraError, match=r"needs pynacl, .*: pip install 'edge-agent\[trust\]'"):
        load_keys([folder / "ours.pub"])
