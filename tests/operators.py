"""An operator of a fleet as tests need one: keys, signatures, wishes and pieces of bundles, made by hand.

Nothing here is `edgetool`'s: what the agent takes and what it refuses must not depend on one program that sends it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from nacl.signing import SigningKey
from paho.mqtt.enums import CallbackAPIVersion
from processes import wait_until

from edge_agent.update.wishes import CHUNK_BYTES

__all__ = ["Operator", "iso", "public_file", "sign_bundle"]

_HEADER = bytes.fromhex("302a300506032b6570032100")


def public_file(path: Path, key: SigningKey) -> Path:
    """The public half of a key, as a file for `[trust] keys`."""
    text = base64.b64encode(_HEADER + key.verify_key.encode()).decode()
    path.write_text(f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    return path


def sign_bundle(path: Path, key: SigningKey) -> Path:
    """Add a signature to a bundle's file."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("manifest.sig", key.sign(archive.read("manifest.json")).signature)
    return path


def iso(offset_s: float = 0.0) -> str:
    """Now, and some seconds more."""
    return datetime.fromtimestamp(time.time() + offset_s, UTC).isoformat()


class Operator:
    """Somebody at the broker with a key.

    Args:
        port: of the broker.
        key: signs; one of its own when not given.
        agent: the agent's id.
        stream: the stream's name.
    """

    def __init__(self, port: int, key: SigningKey | None = None, agent: str = "g1", stream: str = "pump") -> None:
        self.key = key or SigningKey.generate()
        self.agent, self.stream = agent, stream
        self.told: list[dict[str, Any]] = []
        """What the agent told of its updates, oldest first."""
        self._sequence = int(time.time() * 1000)
        self._port = port
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"operator-{port}-{id(self)}")
        self._client.on_connect = lambda client, *_: client.subscribe(f"edge/{agent}/updates/{stream}", qos=1)
        self._client.on_message = self._on_message

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.payload:
            self.told.append(json.loads(message.payload))

    @property
    def now(self) -> dict[str, Any]:
        """What the agent told last."""
        return self.told[-1] if self.told else {}

    def wait_state(self, *states: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Until an update stands at one of these; gives what is told then."""
        try:
            wait_until(lambda: self.now.get("state") in states, timeout_s)
        except AssertionError:
            raise AssertionError(f"waited {timeout_s:.0f} s for {states}; told last: {self.now}") from None
        return self.now

    def wait_answer(self, wish: dict[str, Any]) -> None:
        """Until a wish for settings, or to recommission, is answered."""
        wait_until(lambda: self.now.get(wish["kind"], {}).get("sequence") == wish["sequence"], what="the answer")

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish, and wait until the broker has it."""
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(20)

    def envelope(self, wish: dict[str, Any], key: SigningKey | None = None) -> bytes:
        """A signed wish."""
        signer = key or self.key
        text = json.dumps(wish)
        signature = signer.sign(b"edge-agent wish 1\n" + text.encode()).signature
        key_id = hashlib.sha256(signer.verify_key.encode()).hexdigest()[:16]
        return json.dumps({"wish": text, "key": key_id, "signature": base64.b64encode(signature).decode()}).encode()

    def wish(self, kind: str = "bundle", *, expires_s: float = 3600.0, **more: Any) -> dict[str, Any]:
        """A wish that is newer than all before."""
        self._sequence += 1
        common = {"agent": self.agent, "stream": self.stream, "kind": kind, "sequence": self._sequence}
        return {**common, "issued": iso(), "expires": iso(expires_s), **more}

    def brought(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Settings as a standing has them, with the wish that brought them."""
        message = self.envelope(self.wish("settings", settings=settings)).decode()
        return {"settings": settings, "settings_wish": message}

    def topic(self, kind: str = "bundle") -> str:
        """Where wishes of a kind go."""
        return f"edge/{self.agent}/wishes/{self.stream}/{kind}"

    def send(self, wish: dict[str, Any], key: SigningKey | None = None) -> None:
        """Publish a wish, signed."""
        self.publish(self.topic(wish["kind"]), self.envelope(wish, key))

    def part(self, bundle: Path, **more: Any) -> dict[str, Any]:
        """What a wish says of a bundle."""
        content = bundle.read_bytes()
        with zipfile.ZipFile(bundle) as archive:
            manifest = json.loads(archive.read("manifest.json"))
        sha256 = hashlib.sha256(content).hexdigest()
        names = {"name": manifest["name"], "version": manifest["version"]}
        return {"sha256": sha256, "size_bytes": len(content), "chunk_bytes": CHUNK_BYTES, **names, **more}

    def put_pieces(self, bundle: Path, chunk_bytes: int = CHUNK_BYTES) -> None:
        """Let the broker have a bundle in pieces."""
        content = bundle.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        for number, start in enumerate(range(0, len(content), chunk_bytes)):
            self.publish(f"edge/bundles/{sha256}/{number}", content[start : start + chunk_bytes])

    def deploy(
        self,
        bundle: Path,
        *,
        shadow: tuple[int, float] = (0, 0.0),
        probation: tuple[int, float] = (0, 0.0),
        chunk_bytes: int = CHUNK_BYTES,
        **more: Any,
    ) -> dict[str, Any]:
        """Put a bundle at the broker and wish for it; gives the wish."""
        self.put_pieces(bundle, chunk_bytes)
        wish = self.wish(
            bundle=self.part(bundle, chunk_bytes=chunk_bytes),
            shadow={"readings": shadow[0], "minutes": shadow[1]},
            probation={"readings": probation[0], "minutes": probation[1]},
            **more,
        )
        self.send(wish)
        return wish

    def __enter__(self) -> Operator:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        wait_until(self._client.is_connected, what="the operator's connection")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        del self._client  # see `Neighbour`
