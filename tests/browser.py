"""A real browser, Debian's Chromium, for tests of the dashboard; and the dashboard as a process."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from processes import program, tool, wait_until
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By

__all__ = ["Answer", "Browser", "Dashboard"]

_OPTIONS = (
    "--headless=new",
    # Root has no sandbox, and a container has little shared memory.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


class Browser:
    """Chromium without a window.

    Args:
        size: of the page, pixels.
        dark: whether it prefers dark pages.
    """

    def __init__(self, size: tuple[int, int] = (1280, 900), *, dark: bool = False) -> None:
        options = ChromeOptions()
        options.binary_location = program("chromium")
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-")
        for option in (*_OPTIONS, f"--user-data-dir={self._profile.name}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        # Without the path selenium would look for a driver on the internet.
        self.driver = Chrome(options, ChromeService(program("chromedriver")))
        self.driver.set_script_timeout(60)
        self.requests: list[str] = []
        """The address of everything that was asked for."""
        self.complaints: list[str] = []
        """What the console shows as a warning or an error."""
        # No window is narrower than 500 pixels; a phone is.
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        if dark:
            features = [{"name": "prefers-color-scheme", "value": "dark"}]
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, url: str) -> None:
        """Open a page; what the last one asked for and complained of is noted before."""
        self.note()
        self.driver.get(url)

    def note(self) -> None:
        """Take what the browser has logged so far."""
        for entry in self.driver.get_log("performance"):  # type: ignore[no-untyped-call]
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        self.complaints += [
            entry["message"]
            for entry in self.driver.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] in ("WARNING", "SEVERE")
        ]

    def forget(self) -> None:
        """Forget what was noted, as where something was taken away from the page on purpose."""
        self.note()
        self.requests.clear()
        self.complaints.clear()

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def text(self, css: str) -> str:
        """The text of the first element; empty where there is none. Asked in one step, because pages change."""
        found: str = self.run("return document.querySelector(arguments[0])?.innerText ?? ''", css)
        return found

    def texts(self, css: str) -> list[str]:
        """The texts of all elements, seen or not."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", css
        )
        return found

    def element(self, css: str) -> Any:
        """The first element."""
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def wait(self, condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        """Until something in the page is true."""
        try:
            wait_until(condition, timeout_s, what)
        except AssertionError:
            self.note()
            page = self.run("return document.body.innerText")
            raise AssertionError(f"waited for {what}; the page:\n{page}\n{self.complaints}") from None

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()
        self._profile.cleanup()


class Answer(NamedTuple):
    """To one request."""

    code: int
    body: str
    headers: dict[str, str]


class Dashboard:
    """`edgetool dashboard` as a process, on a free port.

    Args:
        port: of the broker.
        arguments: more of them.
    """

    def __init__(self, port: int, *arguments: str | Path) -> None:
        self._command = [tool("edgetool"), "dashboard", "--port", str(port), "--listen", "127.0.0.1:0"]
        self._command += map(str, arguments)
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.said = ""
        """What it said before its pages were there."""

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True, env={**os.environ})
        assert self.process.stderr is not None
        self.said = ""
        while not (line := self.process.stderr.readline()).startswith("dashboard of "):
            assert line, self.said
            self.said += line
        self.url = line.split()[-1]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        self.process.send_signal(how)
        code = self.process.wait(timeout=20)
        said = self.process.stderr.read()
        self.process.stderr.close()
        self.process = None
        assert (code, said) == (0, "")

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        self.process.kill()
        self.process.wait(timeout=20)
        self.process.stderr.close()
        self.process = None

    def page(self, path: str = "", **question: str) -> str:
        """The address of a page."""
        return f"{self.url}{path}" + (f"?{urlencode(question)}" if question else "")

    def ask(self, path: str, *, body: str | None = None, method: str = "", **headers: str) -> Answer:
        """One request, as a program asks and not a browser; `x_y` is the header `x-y`."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method or ("GET" if body is None else "POST"), path, body, named)
            with connection.getresponse() as answer:
                found = {name.lower(): value for name, value in answer.getheaders()}
                return Answer(answer.status, answer.read().decode(), found)
        finally:
            connection.close()

    def is_only_host(self, requests: Sequence[str]) -> bool:
        """Whether pages asked for nothing else. What the browser's own first page has in itself does not count."""
        ours = [split for each in requests if (split := urlsplit(each)).scheme not in ("chrome", "data")]
        return {split.netloc for split in ours} == {urlsplit(self.url).netloc}

    def __enter__(self) -> Dashboard:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.kill()
