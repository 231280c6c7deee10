"""`edgetool dashboard` behind a real nginx, as docs/dashboard.md sets it up: below a path, with people of its own."""

from __future__ import annotations

import base64
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from browser import Browser, Dashboard
from fakes import make_alert
from processes import Broker, Sender, free_port, program, wait_until

from edge_agent.messages.text import encode, iso_time

pytestmark = pytest.mark.xdist_group("dashboard")

DOCUMENT = Path(__file__).parents[2] / "docs" / "dashboard.md"
PERSON = {"Authorization": f"Basic {base64.b64encode(b'ada:secret').decode()}"}
TOKEN = "correct horse battery"


@contextmanager
def nginx(folder: Path, dashboard: str) -> Iterator[str]:
    """The proxy of the document in front of a dashboard; gives the address of what it shows."""
    found = re.search(r"```nginx\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    users = folder / "users"
    users.write_text("ada:{PLAIN}secret\n")
    location = found[1].replace("http://127.0.0.1:8080/", dashboard).replace("/etc/nginx/users", str(users))
    assert dashboard in location
    assert str(users) in location
    port = free_port()
    paths = "".join(
        f"{name}_temp_path {folder / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder / 'nginx.pid'}; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port};\n{location} }} }}\n"
    )
    with subprocess.Popen([program("nginx"), "-p", str(folder), "-c", str(config)]) as process:
        try:
            url = f"http://127.0.0.1:{port}/edge/"
            wait_until(lambda: code_of(url) is not None, what="nginx")
            yield url
        finally:
            process.terminate()
            process.wait(timeout=20)


def code_of(url: str, headers: dict[str, str] | None = None) -> int | None:
    """Of an answer; None where nobody answers."""
    try:
        with urlopen(Request(url, headers=headers or {}), timeout=10) as answer:
            return int(answer.status)
    except HTTPError as exc:
        return exc.code
    except OSError:
        return None


@contextmanager
def person(browser: Browser) -> Iterator[None]:
    """What a browser does once somebody has given the name and the password that nginx asks for."""
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": PERSON})
    yield
    browser.open("about:blank")
    browser.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {}})


def raise_alert(sender: Sender, asset: str) -> None:
    now = iso_time(time.time())
    alert = make_alert(agent="g1", id=f"alert-{asset}", asset=asset, time=now, since=now)
    sender.send(f"edge/g1/alerts/pump/{asset}", encode(alert))
    sender.drain()


def test_a_proxy_shows_it_below_a_path(browser: Browser, broker: Broker, sender: Sender, tmp_path: Path) -> None:
    """Pages, what they are told as it happens, an alert's story, a mark: nothing is asked for above the path."""
    with (
        Dashboard(broker.port, "--behind-proxy") as running,
        nginx(tmp_path, running.url) as url,
        person(browser),
    ):
        assert code_of(url) == 401
        assert code_of(url, PERSON) == 200
        browser.open(url)
        browser.wait(lambda: browser.text("#alerts-title + p") == "None.", "the page")
        raise_alert(sender, "a1")
        browser.wait(lambda: browser.text("#alerts tbody th a") == "a1", "the alert, through the proxy")
        browser.run("document.querySelector('#alerts tbody th a').click()")
        browser.wait(lambda: browser.text("#name") == "a1", "the curve's page")
        browser.wait(lambda: browser.run("return document.querySelector('#alerts a')"), "its alerts")
        browser.run("document.querySelector('#alerts a').click()")
        browser.wait(lambda: "raise" in "".join(browser.texts("#events")), "the story")
        browser.element("[name=by]").send_keys("Ada")
        browser.element("[name=note]").send_keys("a bearing")
        browser.run("document.querySelector('#mark').requestSubmit()")
        browser.wait(lambda: "Ada" in browser.text("#marked"), "the mark")
        browser.run("document.querySelector('header a').click()")
        browser.wait(lambda: browser.text("#alerts tbody th a") == "a1", "the first page")
        assert browser.run("return location.pathname") == "/edge/"
        browser.note()
        assert [each for each in browser.requests if not each.startswith((url, "data:"))] == []
        assert browser.complaints == []


def test_a_token_is_asked_for_below_the_path(browser: Browser, broker: Broker, sender: Sender, tmp_path: Path) -> None:
    """Whoever followed a link to an alert is there once the token was given."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with (
        Dashboard(broker.port, "--behind-proxy", "--token-file", file) as running,
        nginx(tmp_path, running.url) as url,
        person(browser),
    ):
        raise_alert(sender, "a2")
        browser.open(f"{url}alert?agent=g1&id=alert-a2")
        browser.wait(lambda: browser.run("return document.querySelector('[name=token]')"), "the form")
        browser.element("[name=token]").send_keys(TOKEN)
        browser.run("document.querySelector('form').requestSubmit()")
        browser.wait(lambda: "raise" in "".join(browser.texts("#events")), "the story")
        assert browser.run("return location.href") == f"{url}alert?agent=g1&id=alert-a2"
