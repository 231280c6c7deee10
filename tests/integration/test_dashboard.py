"""`edgetool dashboard` in a real browser, beside a real broker and a real agent."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Dashboard
from fakes import make_alert
from processes import Agent, Broker, Sender, Subscriber, run_tool, write_config
from selenium.webdriver.common.keys import Keys

from edge_agent.messages.event import ChannelShare
from edge_agent.messages.text import encode, iso_time

pytestmark = pytest.mark.xdist_group("dashboard")

MARKUP = "<img src=x onerror=document.title='owned'><b>x</b>\u202eback"
"""What no page may take for more than a text."""


@pytest.fixture
def agent(broker: Broker, subscriber: Subscriber, bundle: Path, tmp_path: Path) -> Iterator[Agent]:
    """With one stream, `pump`, whose limit is 9."""
    with Agent(write_config(tmp_path, broker.port, {"pump": bundle})) as running:
        subscriber.wait_online()
        yield running


def score(asset: str, highest: float, *, at: float, agent: str = "g1", **more: Any) -> tuple[str, dict[str, Any]]:
    """A message with scores, and its topic."""
    document = {
        "agent": agent,
        "stream": "pump",
        "asset": asset,
        "time": iso_time(at),
        "since": iso_time(at - 5),
        "windows": 5,
        "score": highest / 2,
        "highest": highest,
        "threshold": 9.0,
        "clear": 4.0,
        "state": "normal",
        "channels": [{"name": "c1", "share": 0.75, "value": 2.5}, {"name": "c2", "share": 0.25, "value": None}],
        **more,
    }
    return f"edge/{agent}/scores/pump/{asset}", document


def send_scores(sender: Sender, asset: str, values: list[float], *, start: float, **more: Any) -> None:
    for number, value in enumerate(values):
        topic, document = score(asset, value, at=start + 5 * number, **more)
        sender.send(topic, document)
    sender.drain()


def drawn_pixels(browser: Browser, css: str) -> int:
    """How many pixels of a chart have the colour of its curve."""
    found: int = browser.run(
        """
        const canvas = document.querySelector(arguments[0] + ' canvas')
        const wanted = getComputedStyle(document.documentElement).getPropertyValue('--curve').trim()
        const [r, g, b] = [1, 3, 5].map((at) => parseInt(wanted.slice(at, at + 2), 16))
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
        let count = 0
        for (let at = 0; at < data.length; at += 4)
          count += data[at + 3] > 200 && [r, g, b].every((part, n) => Math.abs(data[at + n] - part) < 5)
        return count
        """,
        css,
    )
    return found


@pytest.mark.usefixtures("agent")
def test_alerts_of_before_its_start_are_counted(
    browser: Browser, broker: Broker, sender: Sender, subscriber: Subscriber
) -> None:
    """They are retained nowhere, so nothing tells which they are; that there are some, health does."""
    sender.send("sensors/a1/pump", {"time": time.time(), "c1": 9, "c2": 0})
    subscriber.wait_events("raise")
    with Dashboard(broker.port) as running:
        browser.open(running.page())
        browser.wait(lambda: "! 1 more is open by the agents' health" in browser.text("#not-heard"), "the hint")
        sender.send("sensors/a1/pump", {"time": time.time(), "c1": 0, "c2": 0})
        browser.wait(lambda: not browser.run("return !document.querySelector('#not-heard').hidden"), "its end")
        browser.open("about:blank")


@pytest.mark.usefixtures("agent")
def test_a_page_that_has_no_frames_any_more_is_told_on(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """As one that goes out of sight just as it asks for its next frame: its title still tells of alerts."""
    browser.open(dashboard.page())
    browser.wait(lambda: "1 of 1 agent online" in browser.text("#summary"), "the agent")
    browser.run("window.requestAnimationFrame = () => 0")
    sender.send("sensors/a1/pump", {"time": time.time(), "c1": 9, "c2": 0})
    browser.wait(lambda: browser.run("return document.title") == "(1) Fleet", "the title")


@pytest.mark.usefixtures("agent")
def test_an_alert_appears_with_its_curve_and_its_story(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """Of an agent that is seen to be online; then its end, and nothing was asked of another host."""
    browser.open(dashboard.page())
    browser.wait(lambda: "1 of 1 agent online" in browser.text("#summary"), "the agent")
    assert browser.text("#alerts-title + p") == "None."
    assert "pump: 0 assets, 0 alerts, square 1.0.0 on cpu" in browser.text("#agents")
    now = time.time()
    send_scores(sender, "a1", [2.0, 5.0, 3.0, 81.0], start=now - 15)
    sender.send("sensors/a1/pump", {"time": now, "c1": 9, "c2": 0})
    browser.wait(lambda: "score 81 (limit 9)" in browser.text("#alerts"), "the alert")
    assert "c1 9 (100\u00a0%), c2 0 (0\u00a0%)" in browser.text("#alerts")
    assert browser.text("#alerts tbody th a") == "a1"
    assert browser.run("return document.title") == "(1) Fleet"
    browser.wait(lambda: "New alert, ▲ alarm: a1 of g1" in browser.texts("#news")[0], "the words for a screen reader")
    browser.wait(
        lambda: browser.run("return document.querySelector('#assets .spark .curve').points.length") == 4, "4 points"
    )

    browser.open(browser.run("return document.querySelector('#assets tbody a').href"))
    browser.wait(
        lambda: browser.run("return document.querySelector('#chart').chart.plot.data[0].length") == 4, "points"
    )
    assert drawn_pixels(browser, "#chart") > 30
    assert browser.run("return document.querySelector('#chart').chart.spans.length") == 1
    assert browser.texts("#channels tbody tr") == ["c12.575\u00a0%", "c2\u201325\u00a0%"]
    sender.send(*score("a1", 7.0, at=now + 5))
    browser.wait(
        lambda: browser.run("return document.querySelector('#chart').chart.plot.data[1].at(-1)") == 7, "a new point"
    )

    browser.run("document.querySelector('#alerts a').click()")
    browser.wait(lambda: "raise" in browser.texts("#events")[0], "the story")
    sender.send("sensors/a1/pump", {"time": now + 30, "c1": 0, "c2": 0})
    browser.wait(lambda: "clear" in browser.texts("#events")[0], "its end")
    assert "Lasted\n30 s" in browser.text("#facts")
    assert "Worst\n81" in browser.text("#facts")
    browser.run("[...document.querySelectorAll('#facts a')].at(-1).click()")
    shown = (
        "const { columns, spans } = document.querySelector('#chart').chart; return [columns[0].length, spans.length]"
    )
    browser.wait(lambda: browser.texts("#chart canvas") and browser.run(shown) == [5, 1], "the curve around the alert")
    browser.open(dashboard.page())
    browser.wait(lambda: "30 s" in browser.text("#ended"), "the alert that has ended")
    browser.note()
    assert dashboard.is_only_host(browser.requests)
    assert browser.complaints == []


def test_what_an_agent_scores_is_drawn(
    browser: Browser, dashboard: Dashboard, broker: Broker, bundle: Path, sender: Sender, tmp_path: Path
) -> None:
    """By its own messages, with the sensors of each point; where it scores nothing more, nothing is added."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra='[publish]\nscores = "0.2s"')
    browser.open(dashboard.page("asset", agent="g1", stream="pump", asset="a1"))
    points = "return document.querySelector('#chart').chart.columns"
    with Agent(config):
        broker.wait_subscribed()
        start = time.time()
        for number in range(40):
            sender.send("sensors/a1/pump", {"time": start + number, "c1": number / 15, "c2": 0.5})
            time.sleep(0.05)  # so that they fall into several intervals
        browser.wait(lambda: (browser.run(points)[1] or [0])[-1] == pytest.approx(7.01, rel=1e-3), "the last score")
    times, highest, last, limit = browser.run(points)
    assert 2 <= len(times) <= 20
    assert (last[-1], set(limit)) == (highest[-1], {9})
    assert highest == sorted(highest)
    assert "State\nnormal" in browser.text("#facts")
    assert browser.texts("#channels tbody tr")[0].startswith("c1")


@pytest.mark.usefixtures("agent")
def test_a_restart_forgets_nothing_that_is_in_the_history(
    browser: Browser, broker: Broker, sender: Sender, tmp_path: Path
) -> None:
    """The asset with its curve, the open alert, and its story; without a history it begins anew."""
    now = time.time()
    with Dashboard(broker.port, "--history", tmp_path / "history.db") as running:
        browser.open(running.page())
        send_scores(sender, "a1", [1.0, 2.0, 3.0], start=now - 10)
        sender.send("sensors/a1/pump", {"time": now, "c1": 9, "c2": 0})
        browser.wait(lambda: "score 81" in browser.text("#alerts"), "the alert")
        running.stop()
        browser.wait(lambda: browser.text("#state") == "⚠ the dashboard does not answer", "that it is away")
    with Dashboard(broker.port, "--history", tmp_path / "history.db") as running:
        browser.open(running.page())
        browser.forget()
        browser.wait(lambda: "score 81" in browser.text("#alerts"), "the alert, again")
        points = "return document.querySelector('#assets .spark .curve').points.length"
        browser.wait(lambda: browser.run(points) == 3, "the last scores")
        browser.open(running.page("asset", agent="g1", stream="pump", asset="a1"))
        browser.wait(
            lambda: browser.run("return document.querySelector('#chart').chart.plot.data[0].length") == 3, "points"
        )
        assert drawn_pixels(browser, "#chart") > 30
        browser.run("document.querySelector('#alerts a').click()")
        browser.wait(lambda: "raise" in browser.texts("#events")[0], "the story")
        running.stop()
    with Dashboard(broker.port) as running:
        browser.open(running.page())
        browser.forget()
        browser.wait(lambda: "1 of 1 agent online" in browser.text("#summary"), "the agent")
        assert browser.text("#summary").startswith("0 open alerts, 0 assets")
        running.stop(signal.SIGINT)


def test_five_hundred_assets_are_listed_by_what_needs_a_person(
    browser: Browser, dashboard: Dashboard, sender: Sender
) -> None:
    """Nearest to its limit first, then those that learn, then those that are muted; and found by a part of a name."""
    browser.open(dashboard.page())
    sender.send(
        "edge/g1/status", {"state": "online", "reason": "connected", "session": "s", "time": "", "version": "1"}
    )
    now = time.time()
    for number in range(500):
        sender.send(*score(f"a{number:03}", number / 100, at=now))
    sender.send(*score("a004", 99.0, at=now + 5, state="alarm"))
    sender.send(*score("a003", 99.0, at=now + 5, muted=True))
    sender.send(*score("a002", 99.0, at=now + 5, threshold=None, state="learning"))
    names = "#assets tbody th a"
    browser.wait(lambda: len(browser.texts(names)) == 500 and browser.texts(names)[0] == "a004", "500 assets in order")
    expected = [
        "a004",
        *(f"a{number:03}" for number in reversed(range(500)) if number not in (2, 3, 4)),
        "a002",
        "a003",
    ]
    assert browser.texts(names) == expected
    assert browser.texts("#assets tbody tr:last-child td")[0] == "\u2013 muted"
    without_words = "return document.querySelectorAll('#assets .spark:not([aria-label])').length"
    assert browser.run(without_words) == 0, "also of what is not in sight"
    browser.element("#find").send_keys("A49 g1")
    browser.wait(lambda: browser.texts(names) == [f"a{number}" for number in reversed(range(490, 500))], "ten of them")
    assert browser.text("#shown") == "10"


def test_what_names_and_notes_say_is_shown_and_not_obeyed(
    browser: Browser, dashboard: Dashboard, sender: Sender
) -> None:
    """Markup in the names of assets, sensors, streams and agents, in every text of an alert, and in a note."""
    browser.open(dashboard.page())
    now = time.time()
    channels = [{"name": MARKUP, "share": 1.0, "value": 1.0}]
    _, document = score("a1", 8.0, at=now)
    place = {"agent": "g<b>1", "stream": "s<i>2", "asset": MARKUP.replace("/", "\\")}
    sender.send(
        f"edge/{place['agent']}/scores/{place['stream']}/{place['asset']}", {**document, **place, "channels": channels}
    )
    alert = {
        **place,
        "id": "x1",
        "event": "raise",
        "level": MARKUP,
        "score": 9.5,
        "threshold": 9.0,
        "time": iso_time(now),
        "since": MARKUP,
        "channels": channels,
        "provider": MARKUP,
        "delayed": False,
        "model": {"name": MARKUP, "version": MARKUP, "sha256": ""},
    }
    sender.send(f"edge/{place['agent']}/alerts/{place['stream']}/{place['asset']}", alert)
    mark = {"agent": place["agent"], "id": "x1", "acknowledged": True, "note": MARKUP, "by": MARKUP, "time": "2026"}
    sender.send(f"edge/{place['agent']}/marks/x1", mark)
    health = {
        "agent": place["agent"],
        "version": MARKUP,
        "journal_problem": MARKUP,
        "streams": {MARKUP: {"provider": MARKUP}},
    }
    sender.send(f"edge/{place['agent']}/health", health)
    sender.drain()
    shown = MARKUP.replace("\u202e", "\\u{202e}")
    browser.wait(lambda: shown in browser.text("#alerts"), "the note")
    browser.wait(lambda: f"journal: {shown}" in browser.text("#agents"), "the problem")
    assert browser.text("#assets tbody th a") == shown.replace("/", "\\")
    pages = ["", browser.run("return document.querySelector('#assets tbody a').getAttribute('href')")]
    pages.append(browser.run("return document.querySelector('#alerts tbody a').getAttribute('href')"))
    for page, where in zip(pages, ("#alerts", "#channels", "#channels"), strict=True):
        browser.open(dashboard.url + page)
        browser.wait(lambda where=where: "<b>x</b>" in browser.text(where), f"{where} of {page}")  # type: ignore[misc]
        assert browser.run("return document.querySelectorAll('img, td b, th b, i').length") == 0
        assert "owned" not in browser.run("return document.title").replace(MARKUP[:40], "")
    assert MARKUP.partition("\u202e")[0] in browser.text("#marked")
    browser.note()
    assert browser.complaints == []


def test_forgeries_are_told_apart(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """A retained alert, one in another agent's name, scores on another asset's topic: notices at most, and counted."""
    browser.open(dashboard.page())
    now = time.time()
    sender.send("edge/g1/alerts/pump/a1", {"event": "nonsense"})
    topic, document = score("a1", 8.0, at=now)
    sender.send(topic.replace("a1", "a2"), document)
    forged = {
        "id": "f",
        "event": "raise",
        "agent": "g2",
        "stream": "pump",
        "asset": "a1",
        "level": "alarm",
        "score": 99.0,
    }
    forged |= {"threshold": 9.0, "time": iso_time(now), "since": iso_time(now), "channels": [], "provider": "cpu"}
    sender.send("edge/g1/alerts/pump/a1", {**forged, "model": {"name": "m", "version": "1", "sha256": ""}})
    sender.send(topic, document)
    browser.wait(lambda: browser.texts("#assets tbody th a") == ["a1"], "the asset")
    assert "not believed (agent): raise, score 99 (limit 9)" in browser.text("#notices")
    assert browser.texts("#alerts tbody tr") == []
    assert (
        browser.run("return fetch('/metrics').then((answer) => answer.text())").count('doubted_total{kind="alerts"} 2')
        == 1
    )


@pytest.mark.usefixtures("agent")
def test_people_mark_an_alert_and_a_second_dashboard_shows_it(
    browser: Browser, broker: Broker, dashboard: Dashboard, sender: Sender
) -> None:
    """By keyboard alone; while the broker is away nothing is marked, and the page says so."""
    browser.open(dashboard.page())
    sender.send("sensors/a1/pump", {"c1": 9, "c2": 0})
    browser.wait(lambda: "nobody yet" in browser.text("#alerts"), "the alert")
    browser.element("#alerts tbody a").send_keys(Keys.ENTER)
    browser.wait(lambda: "raise" in browser.texts("#events")[0], "the story")
    browser.element("input[name=by]").send_keys("Ada")
    browser.element("input[name=acknowledged]").send_keys(Keys.SPACE)
    browser.element("input[name=verdict]").send_keys(Keys.ARROW_RIGHT)
    browser.element("textarea").send_keys("the <b>valve</b>", Keys.TAB, Keys.ENTER)
    browser.wait(lambda: browser.text("#saved") == "saved", "that it is saved")
    said = "looked after, true: something was wrong by Ada “the <b>valve</b>”"
    browser.wait(lambda: browser.text("#marked").startswith(said), "the mark")
    address = browser.run("return location.pathname + location.search")
    with Dashboard(broker.port) as second:
        browser.open(second.page())
        browser.wait(lambda: "1 of 1 agent" in browser.text("#summary"), "the agent")
        # This one began behind the raise, so it hears of the alert with its next event.
        sender.send("sensors/a1/pump", {"c1": 0, "c2": 0})
        browser.wait(lambda: said in browser.text("#ended"), "the mark")
        second.stop()
    broker.stop()
    browser.open(dashboard.url + address[1:])
    browser.wait(lambda: browser.text("#state") == "⚠ no connection to the broker", "that the broker is away")
    browser.element("button").click()
    browser.wait(
        lambda: browser.text("#saved").startswith("not saved: there is no connection"), "that nothing is saved"
    )
    browser.note()
    assert [each for each in browser.complaints if "503" not in each] == []
    browser.complaints.clear()
    broker.start()
    browser.wait(lambda: browser.text("#state") == "● live", "that the broker is back")


@pytest.mark.usefixtures("agent")
def test_an_alert_whose_end_nobody_heard_is_not_open_for_ever(
    browser: Browser, broker: Broker, sender: Sender, subscriber: Subscriber, tmp_path: Path
) -> None:
    """The agent's health says that it has none any more. A copy of a history has no session that would hear of it."""
    with Dashboard(broker.port, "--history", tmp_path / "history.db") as running:
        browser.open(running.page())
        sender.send("sensors/a1/pump", {"c1": 9, "c2": 0})
        browser.wait(lambda: "score 81" in browser.text("#alerts"), "the alert")
        running.stop()
    sender.send("sensors/a1/pump", {"c1": 0, "c2": 0})
    subscriber.wait_events("raise", "clear")
    shutil.copy2(tmp_path / "history.db", tmp_path / "copy.db")
    with Dashboard(broker.port, "--history", tmp_path / "copy.db") as running:
        browser.open(running.page())
        browser.forget()
        browser.wait(lambda: "its end was not heard" in browser.text("#ended"), "that it has ended")
        running.stop()


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("dark", [False, True])
def test_pages_fit_on_a_phone(browser: Browser, dashboard: Dashboard, sender: Sender, dark: bool) -> None:
    """Nothing is wider than the page, by day and by night, with long names; and text stands out from its ground."""
    now, name = time.time(), "a" * 60
    send_scores(sender, name, [2.0, 8.0], start=now - 5)
    sender.send(f"sensors/{name}/pump", {"c1": 9, "c2": 0})
    browser.open(dashboard.page())
    browser.wait(lambda: "score 81" in browser.text("#alerts"), "the alert")
    links = [
        browser.run("return document.querySelector(arguments[0]).href", f"{css} tbody a")
        for css in ("#alerts", "#assets")
    ]
    with Browser((360, 740), dark=dark) as phone:
        for address, css in zip(
            (dashboard.url, *links), ("#alerts tbody a", "#events tbody tr", "#chart canvas"), strict=True
        ):
            phone.open(address)
            phone.wait(lambda css=css: phone.texts(css), css)  # type: ignore[misc]
            assert phone.run("return document.documentElement.scrollWidth") <= 360, address
            ground, ink = (
                phone.run("return getComputedStyle(document.body)[arguments[0]]", it)
                for it in ("backgroundColor", "color")
            )
            assert contrast(ground, ink) > 7
            assert (brightness(ground) < 0.1) is dark
        phone.note()
        assert phone.complaints == []


def brightness(colour: str) -> float:
    """Relative luminance of `rgb(…)`, as WCAG has it."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_chart_is_read_by_keyboard(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """The arrow keys move along it, and what stands there is said."""
    now = time.time()
    send_scores(sender, "a1", [2.0, 5.0, 3.0], start=now - 10)
    browser.open(dashboard.page("asset", agent="g1", stream="pump", asset="a1"))
    browser.wait(
        lambda: browser.run("return document.querySelector('#chart').chart.plot.data[0].length") == 3, "points"
    )
    chart = browser.element("#chart")
    for key, expected in ((Keys.HOME, 2), (Keys.ARROW_RIGHT, 5), (Keys.END, 3), (Keys.ARROW_LEFT, 5)):
        chart.send_keys(key)
        browser.wait(lambda expected=expected: f"highest score {expected}, limit 9" in browser.text("#at"), key)  # type: ignore[misc]
    assert browser.element("#at").get_attribute("aria-live") == "polite"


@pytest.mark.usefixtures("agent")
def test_readings_around_a_raise_are_shown(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """In two parts, of which the second comes later."""
    now = time.time()
    sender.send("sensors/a1/pump", {"time": now, "c1": 9, "c2": 0})
    browser.open(dashboard.page())
    browser.wait(lambda: "score 81" in browser.text("#alerts"), "the alert")
    alert_id = browser.run("return new URL(document.querySelector('#alerts tbody a').href).searchParams.get('id')")
    rows = [[iso_time(now - 10 + number), float(number % 7), None if number == 3 else 1.0] for number in range(20)]
    for part, piece in enumerate(
        itertools.batched(rows, 10) if hasattr(itertools, "batched") else (rows[:10], rows[10:]), 1
    ):
        document = {"id": alert_id, "agent": "g1", "stream": "pump", "asset": "a1", "channels": ["c1", "c2"]}
        sender.send("edge/g1/evidence/pump/a1", {**document, "rows": list(piece), "part": part, "parts": 2})
    browser.element("#alerts tbody a").click()
    charts = "return [...document.querySelectorAll('#evidence .chart')].map((each) => each.chart.plot.data)"
    browser.wait(lambda: [len(data[0]) for data in browser.run(charts)] == [20, 20], "both sensors")
    assert browser.run(charts)[1][1][:5] == [1, 1, 1, None, 1]
    assert browser.texts("#evidence h3") == ["c1", "c2"]


def test_what_people_say_of_an_agents_readings_becomes_data(
    browser: Browser, dashboard: Dashboard, broker: Broker, bundle: Path, sender: Sender, tmp_path: Path
) -> None:
    """From the agent's readings around its raise, by a verdict on the page, to rows with labels."""
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra="[evidence]\nbefore_s = 5\nafter_s = 10")
    browser.open(dashboard.page())
    start = round(time.time()) - 60
    with Agent(config):
        broker.wait_subscribed()
        for number in range(30):
            sender.send("sensors/a1/pump", {"time": start + number, "c1": 9 if 10 <= number < 15 else 1, "c2": 0.5})
        browser.wait(lambda: "a1" in browser.text("#ended"), "the alert")
        browser.open(browser.run("return document.querySelector('#ended tbody a').href"))
        charts = "return [...document.querySelectorAll('#evidence .chart')].map((each) => each.chart.columns[1])"
        browser.wait(lambda: browser.run(charts), "the readings")
    expected = [9 if 10 <= number < 15 else 1 for number in range(5, 21)]
    assert browser.run(charts) == [expected, [0.5] * len(expected)]
    browser.element("input[name=by]").send_keys("Ada")
    browser.element("input[name=verdict][value=true]").click()
    browser.element("form button").click()
    browser.wait(lambda: "true: something was wrong by Ada" in browser.text("#marked"), "the verdict")
    done = run_tool("edgetool", "evidence", tmp_path / "history.db", "-o", tmp_path / "labelled.csv")
    assert done.returncode == 0, done.stderr
    rows = [line.split(",") for line in (tmp_path / "labelled.csv").read_text().splitlines()]
    assert rows[0] == ["time", "asset", "c1", "c2", "label"]
    assert [row[4] for row in rows[1:]] == ["1" if 10 <= number < 15 else "0" for number in range(5, 21)]


def test_one_score_is_drawn(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """A line through one point cannot be seen."""
    send_scores(sender, "a1", [5.0], start=time.time())
    browser.open(dashboard.page("asset", agent="g1", stream="pump", asset="a1"))
    browser.wait(
        lambda: browser.run("return document.querySelector('#chart').chart.plot.data[0].length") == 1, "the point"
    )
    browser.wait(lambda: drawn_pixels(browser, "#chart") > 3, "what is drawn of it")


def test_a_time_of_the_future_stretches_nothing(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """A sender's clock that is wrong once, and a forged score of the last year that there is: shown as doubtful."""
    now = time.time()
    send_scores(sender, "a1", [2.0, 5.0, 3.0], start=now - 10)
    for at in (4_070_908_800.0, 253_402_300_799.0):
        sender.send(*score("a1", 7.0, at=at))
    sender.drain()
    browser.open(dashboard.page())
    browser.wait(lambda: "9999" in browser.text("#assets"), "the last score")
    assert "(⚠ far ahead of the clock)" in browser.text("#assets")
    bounds = "const { min, max } = document.querySelector('#chart').chart.plot.scales.x; return [min, max]"
    for length_s in ("3600", "0"):
        browser.open(dashboard.page("asset", agent="g1", stream="pump", asset="a1", length_s=length_s))
        browser.wait(lambda: "2 scores not drawn" in browser.text("#left-out"), "the doubt")
        assert browser.run("return document.querySelector('#chart').chart.columns[1]") == [2, 5, 3]
        assert browser.run(bounds)[1] == pytest.approx(now, abs=1)
    sender.send(*score("a1", 8.0, at=253_402_300_798.0))
    sender.send(*score("a1", 4.0, at=now + 5))
    columns = "return document.querySelector('#chart').chart.columns[1]"
    browser.wait(lambda: browser.run(columns) == [2, 5, 3, 4], "the next score")
    assert browser.run(bounds)[1] == pytest.approx(now + 5, abs=1)


@pytest.mark.parametrize("size", [(1280, 900), (360, 740)])
def test_long_and_blank_names_leave_room_for_the_rest(
    dashboard: Dashboard, sender: Sender, size: tuple[int, int]
) -> None:
    """Of 256 bytes, which the broker takes; and a name of spaces can be seen and clicked on."""
    long, now = "w" * 256, time.time()
    send_scores(sender, long, [2.0, 8.0], start=now - 5)
    send_scores(sender, " ", [2.0], start=now)
    channels = [ChannelShare(long, 0.9, 1.0)]
    for asset, events in ((long, ["raise"]), ("ended", ["raise", "clear"]), (f"{long[:-1]}2", ["raise", "clear"])):
        for event in events:
            alert = make_alert(agent="g1", id=asset[-9:], event=event, asset=asset, channels=channels)
            sender.send(f"edge/g1/alerts/pump/{asset}", encode(alert))
    sender.drain()
    widths = (
        "return [...document.querySelectorAll(arguments[0] + ' tbody tr')].map((row) => "
        "Math.min(...[...row.cells].filter((cell) => cell.offsetWidth).map((cell) => cell.offsetWidth)))"
    )
    heights = "return [...document.querySelectorAll(arguments[0] + ' tbody tr')].map((row) => row.offsetHeight)"
    with Browser(size) as browser:
        browser.open(dashboard.page())
        browser.wait(lambda: len(browser.texts("#assets tbody tr")) == 4, "the assets")
        browser.wait(lambda: len(browser.texts("#ended tbody tr")) == 2, "the alerts")
        for table in ("#alerts", "#assets", "#ended"):
            assert min(browser.run(widths, table)) >= 40, table
            assert max(browser.run(heights, table)) <= 200, table
        assert browser.run("return document.documentElement.scrollWidth") <= size[0]
        names = browser.texts("#assets tbody th a")
        assert "\\u{20}" in names
        (blank,) = [each for each in browser.driver.find_elements("css selector", "#assets th a") if "20" in each.text]
        blank.click()
        browser.wait(lambda: browser.text("#name") == "\\u{20}", "its page")


def test_the_page_of_a_name_that_is_none_says_so(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """Anybody may send a link; and a name of which something comes later is one."""
    browser.open(dashboard.page("asset", agent="g1", stream="pump", asset="none"))
    browser.wait(lambda: browser.text("#problem") == "Nothing was heard here of such an asset.", "that it is none")
    hidden = "return document.querySelector('#known').hidden"
    assert browser.run(hidden) is True
    send_scores(sender, "none", [5.0], start=time.time())
    browser.wait(lambda: (browser.text("#problem"), browser.run(hidden)) == ("", False), "that it is one")
    browser.wait(lambda: drawn_pixels(browser, "#chart") > 3, "its score")
    width = "return document.querySelector('#chart canvas').getBoundingClientRect().width"
    browser.wait(lambda: browser.run(width) > 1000, "a chart as wide as the page")


def test_the_page_of_an_alert_that_was_not_heard_shows_what_others_say(
    browser: Browser, dashboard: Dashboard, sender: Sender
) -> None:
    """And that its events are not here; its form works on."""
    sender.send("edge/g1/marks/x", {"agent": "g1", "id": "x", "verdict": "known", "by": "Bob"}, retain=True)
    sender.drain()
    browser.open(dashboard.page("alert", agent="g1", id="x"))
    browser.wait(lambda: browser.text("#marked").startswith("known cause, no fault by Bob"), "what Bob said")
    assert browser.text("#marked") == "known cause, no fault by Bob"  # without a time, as it has none
    assert "Its events were not heard here" in browser.text("#said")
    assert not browser.element("#events").is_displayed()
    browser.element("input[name=by]").send_keys("Ada")
    browser.element("#mark button").click()
    browser.wait(lambda: "by Ada" in browser.text("#marked"), "the mark")
    browser.open(dashboard.page("alert", agent="g1", id="none"))
    browser.wait(lambda: browser.text("#problem") == "nothing was heard here of such an alert", "that it is not there")
    assert browser.run("return document.querySelector('#known').hidden") is True
    browser.wait(lambda: browser.text("#state") == "● live", "whether we are told")
    browser.forget()


def test_json_is_what_the_page_is_told(browser: Browser, dashboard: Dashboard) -> None:
    """An asset and an alert that are not there are told as that, and no request ends with a traceback."""
    browser.open(dashboard.page("api/curve", agent="g1", stream="pump", asset="none"))
    assert json.loads(browser.text("body"))["time"] == []
    browser.open(dashboard.page("api/curve", agent="g1", length_s="x"))
    assert browser.text("body") == "length_s and end: expected seconds"
    browser.open(dashboard.page("alert", agent="g1", id="none"))
    browser.wait(lambda: browser.text("#problem") == "nothing was heard here of such an alert", "that it is not there")
    browser.forget()


def test_a_browser_is_asked_for_the_token_once(browser: Browser, broker: Broker, tmp_path: Path) -> None:
    """And then led to the page that was asked for, which is told what happens."""
    token = tmp_path / "token"
    token.write_text("correct horse battery")
    with Dashboard(broker.port, "--token-file", token) as running:
        browser.open(running.page("alert", agent="g1", id="none"))
        browser.element("input[name=token]").send_keys("wrong", Keys.ENTER)
        browser.wait(lambda: "That is not the token." in browser.text("main"), "the refusal")
        browser.element("input[name=token]").send_keys("correct horse battery", Keys.ENTER)
        browser.wait(lambda: browser.text("#problem") == "nothing was heard here of such an alert", "the page")
        browser.open(running.page())
        browser.wait(lambda: browser.text("#state") == "● live", "the fleet")
        browser.driver.delete_all_cookies()
        running.stop()


def test_pages_that_nobody_sees_keep_no_connection(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """But the first, whose title tells of alerts. A browser has six connections, and an eighth page is to live, too."""
    send_scores(sender, "a1", [2.0, 5.0], start=time.time() - 10)
    browser.open(dashboard.page())
    first = browser.driver.current_window_handle
    for _ in range(7):
        browser.driver.switch_to.new_window("tab")
        browser.open(dashboard.page("asset", agent="g1", stream="pump", asset="a1"))
        browser.wait(lambda: browser.text("#state") == "● live", "a page that is told")
    viewers = "return fetch('/metrics').then((answer) => answer.text())"
    browser.wait(lambda: "dashboard_viewers 2\n" in browser.run(viewers), "two pages that are told")
    for handle in browser.driver.window_handles:
        if handle != first:
            browser.driver.switch_to.window(handle)
            browser.driver.close()
    browser.driver.switch_to.window(first)
