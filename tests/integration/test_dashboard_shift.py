"""What somebody on shift has to see on the dashboard's pages, in a real browser, and what must not mislead them."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Dashboard
from fakes import make_alert
from processes import Broker, Sender
from selenium.webdriver import ActionChains, Keys

from edge_agent.messages.event import ChannelShare
from edge_agent.messages.text import encode, iso_time

pytestmark = pytest.mark.xdist_group("dashboard")


def send_scores(sender: Sender, asset: str, values: list[float], *, start: float, step_s: float = 5.0) -> None:
    """Scores of an asset of `g1`, whose limit is 9."""
    for number, value in enumerate(values):
        document = {
            "agent": "g1",
            "stream": "pump",
            "asset": asset,
            "time": iso_time(start + step_s * number),
            "score": value,
            "highest": value,
            "threshold": 9.0,
            "clear": 4.0,
        }
        sender.send(f"edge/g1/scores/pump/{asset}", document)
    sender.drain()


def send_alert(sender: Sender, asset: str, event: str = "raise", **changes: Any) -> None:
    alert = make_alert(**{"agent": "g1", "id": f"of-{asset}", "asset": asset, "event": event, **changes})
    sender.send(f"edge/g1/alerts/pump/{asset}", encode(alert))


def send_health(sender: Sender, active: int) -> None:
    streams = {"pump": {"active_alerts": active, "assets": 1}}
    sender.send("edge/g1/health", {"agent": "g1", "time": iso_time(time.time()), "streams": streams})


def send_status(sender: Sender, state: str, reason: str, *, at: float) -> None:
    status = {"state": state, "reason": reason, "session": "s", "time": iso_time(at), "version": "1"}
    sender.send("edge/g1/status", status, retain=True)


def one_line_each(browser: Browser, css: str) -> list[bool]:
    """Whether the text of each of these stands on one line, where it is seen."""
    found: list[bool] = browser.run(
        """
        return [...document.querySelectorAll(arguments[0])].filter((each) => each.offsetWidth).map((each) => {
          const range = document.createRange()
          range.selectNodeContents(each)
          return new Set([...range.getClientRects()].map((rect) => Math.round(rect.top))).size === 1
        })
        """,
        css,
    )
    return found


def test_an_asset_that_tells_nothing_any_more_is_not_normal(
    browser: Browser, broker: Broker, sender: Sender, tmp_path: Path
) -> None:
    """Its last state may be hours old. It stands before the normal ones; one that tells rarely is one of these."""
    file = tmp_path / "history.db"
    with Dashboard(broker.port, "--history", file) as running:
        send_scores(sender, "stopped", [2.0, 2.0], start=time.time() - 5)
        send_scores(sender, "hourly", [2.0, 2.0], start=time.time() - 5)
        browser.open(running.page())
        browser.wait(lambda: browser.texts("#assets .well") == ["● normal"] * 2, "both")
        browser.open("about:blank")
        running.stop()
        database = sqlite3.connect(file)
        for ago_s, name, number in ((725, "stopped", 1), (720, "stopped", 2), (4320, "hourly", 1), (720, "hourly", 2)):
            database.execute(
                "UPDATE points SET received = ? WHERE id = (SELECT points.id FROM points JOIN series"
                " ON series.id = series WHERE asset = ? ORDER BY time LIMIT 1 OFFSET ?)",
                (time.time() - ago_s, name, number - 1),
            )
        database.commit()
        database.close()
        running.start()
        browser.open(running.page())
        send_scores(sender, "lively", [5.0], start=time.time())
        browser.wait(lambda: browser.texts("#assets th a") == ["stopped", "lively", "hourly"], "their order")
        assert browser.texts("#assets .warn") == ["○ no score for 12 min"]
        browser.open(running.page("asset", agent="g1", stream="pump", asset="stopped"))
        browser.wait(lambda: "○ no score for 12 min; normal before" in browser.text("#facts"), "its page")
        send_scores(sender, "stopped", [3.0], start=time.time())
        browser.wait(lambda: "State\nnormal" in browser.text("#facts"), "that it is back")
        browser.open("about:blank")
        running.stop()


def test_when_an_agent_was_lost_is_told_and_not_when_it_came(
    browser: Browser, dashboard: Dashboard, broker: Broker, sender: Sender
) -> None:
    """A last will was written with the connection. Who came later than the loss knows when health came last."""
    now = time.time()
    send_status(sender, "online", "connected", at=now - 86_400 * 40)
    browser.open(dashboard.page())
    browser.wait(lambda: "● online" in browser.text("#agents"), "the agent")
    send_status(sender, "offline", "connection lost", at=now - 86_400 * 40)
    browser.wait(lambda: "(connection lost) since" in browser.text("#agents"), "the loss")
    lost = browser.text("#agents td")
    shown = browser.run(
        "return arguments[0].map((at) => new Date(at * 1000).toLocaleDateString())", [now - 86_400 * 40]
    )
    assert shown[0] not in lost
    assert ":" in lost, "today's time alone"
    sender.send("edge/g1/health", {"agent": "g1", "time": iso_time(now - 3_600)}, retain=True)
    sender.drain()
    with Dashboard(broker.port) as later:
        browser.open(later.page())
        browser.wait(lambda: "(connection lost) last heard" in browser.text("#agents"), "what is known")
        browser.open("about:blank")
        later.stop()


def test_an_alert_that_has_just_ended_is_not_one_more_that_is_open(
    browser: Browser, dashboard: Dashboard, sender: Sender
) -> None:
    """Health is older than the event. What health alone knows of is counted on."""
    browser.open(dashboard.page())
    send_status(sender, "online", "connected", at=time.time())
    send_alert(sender, "a1")
    send_alert(sender, "a2")
    send_health(sender, 3)
    browser.wait(lambda: "! 1 more is open" in browser.text("#not-heard"), "the one that was not heard of")
    send_alert(sender, "a1", "clear", time="2026-11-21T10:16:00Z")
    browser.wait(lambda: "a1" in browser.text("#ended"), "the end")
    assert "! 1 more is open" in browser.text("#not-heard")
    assert "2 alerts" in browser.text("#agents")
    send_health(sender, 1)
    browser.wait(lambda: browser.run("return document.querySelector('#not-heard').hidden"), "that all is known")
    assert "1 alert" in browser.text("#agents")


def test_a_clock_that_is_hours_wrong_is_told(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """Of an agent whose times nobody can make sense of otherwise."""
    browser.open(dashboard.page())
    for ago_s in (18_001, 18_000):
        sender.send("edge/g1/health", {"agent": "g1", "time": iso_time(time.time() - ago_s)})
    browser.wait(lambda: "clock: 5 h behind the dashboard's" in browser.text("#agents"), "the problem")


def test_an_alert_that_flaps_says_so(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """Else it seems wrong: it is open while the score is low."""
    browser.open(dashboard.page())
    send_alert(sender, "a1", "flapping")
    browser.wait(lambda: "goes on and off, score 7.9 (limit 3.2)" in browser.text("#alerts tbody"), "the word")
    assert "now" not in browser.text("#alerts tbody")
    send_scores(sender, "a1", [0.5], start=time.time())
    browser.wait(lambda: "score 7.9 (limit 3.2), now 0.5" in browser.text("#alerts"), "how it is by now")


def test_a_page_that_is_not_told_says_so_in_its_title(browser: Browser, dashboard: Dashboard) -> None:
    """A tab in the background shows nothing else of it."""
    browser.open(dashboard.page())
    browser.wait(lambda: browser.text("#state") == "● live", "the page")
    title = "return document.title"
    assert browser.run(title) == "Fleet"
    dashboard.stop()
    browser.wait(lambda: browser.run(title) == "⚠ Fleet", "the sign")
    browser.open("about:blank")
    browser.forget()


def test_many_first_pages_are_told_all_the_same(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """A browser has six connections. Of first pages that nobody sees, one is told at once, and the others ask."""
    browser.open(dashboard.page())
    first = browser.driver.current_window_handle
    for _ in range(8):
        browser.driver.switch_to.new_window("tab")
        browser.open(dashboard.page())
        browser.wait(lambda: browser.text("#state") == "● live", "a page that is told")
    viewers = "return fetch('/metrics').then((answer) => answer.text())"
    browser.wait(lambda: "dashboard_viewers 2\n" in browser.run(viewers), "two pages that are told")
    send_alert(sender, "a1")
    title = "return document.title"
    for handle in browser.driver.window_handles:
        browser.driver.switch_to.window(handle)
        browser.wait(lambda: browser.run(title) == "(1) Fleet", "its title")
        if handle != first:
            browser.driver.close()
    browser.driver.switch_to.window(first)


def test_a_page_that_is_not_seen_asks_for_the_number(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """As a first page does in whose place another is told."""
    browser.open(dashboard.page())
    browser.wait(lambda: browser.text("#state") == "● live", "the page")
    hide = """
    Object.defineProperty(document, 'hidden', { get: () => true })
    new BroadcastChannel('edgetool-dashboard').postMessage('')
    """
    browser.run(hide)
    browser.wait(lambda: "dashboard_viewers 0\n" in dashboard.ask("/metrics").body, "that it is not told any more")
    send_alert(sender, "a1")
    browser.wait(lambda: browser.run("return document.title") == "(1) Fleet", "the number")


def test_two_who_mark_at_once_take_nothing_back(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """What one enters is kept in the form while another's mark comes, and only that is saved."""
    send_alert(sender, "a1")
    sender.drain()
    browser.open(dashboard.page("alert", agent="g1", id="of-a1"))
    browser.wait(lambda: "raise" in browser.texts("#events")[0], "the alert")
    browser.element("input[name=by]").send_keys("Ada")
    browser.element("input[name=acknowledged]").click()
    said = {"agent": "g1", "id": "of-a1", "by": "Bob", "verdict": "true", "note": "the valve\r\nis stuck"}
    answer = dashboard.ask("/api/mark", body=json.dumps(said), Sec_Fetch_Site="same-origin")
    assert answer.code == 200, answer.body
    browser.wait(lambda: "by Bob" in browser.text("#marked"), "what Bob says")
    assert browser.element("input[name=acknowledged]").is_selected()
    assert browser.element("textarea").get_property("value") == "the valve\nis stuck"
    browser.element("#mark button").click()
    browser.wait(lambda: "by Ada" in browser.text("#marked"), "the mark")
    mark = json.loads(dashboard.ask("/api/alert?agent=g1&id=of-a1").body)["mark"]
    assert {**mark, "time": ""} == {**said, "by": "Ada", "acknowledged": True, "time": ""}
    browser.element("textarea").clear()
    browser.element("#mark button").click()
    browser.wait(lambda: "stuck" not in browser.text("#marked"), "the note taken back")
    assert browser.text("#marked").startswith("looked after, true: something was wrong by Ada")


def test_somebody_looks_after_an_alert_from_the_list(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """By keyboard, in a name that is asked for once; the row goes down, behind the others, and keeps the focus."""
    send_alert(sender, "a1")
    send_alert(sender, "a2", since="2026-11-21T10:16:00Z")
    said = {
        "agent": "g1",
        "id": "of-a2",
        "verdict": "known",
        "note": "<b>",
        "by": "Bob",
        "time": "2026-11-21T10:17:00Z",
    }
    sender.send("edge/g1/marks/of-a2", said, retain=True)
    browser.open(dashboard.page())
    browser.wait(lambda: browser.texts("#alerts tbody th a") == ["a1", "a2"], "both")
    buttons = browser.driver.find_elements("css selector", "#alerts tbody button")
    assert [each.accessible_name for each in buttons] == [
        "I look after it: alarm of a1, g1 / pump",
        "I look after it: alarm of a2, g1 / pump",
    ]
    browser.element("#by").clear()
    focused = "return document.activeElement.id || document.activeElement.getAttribute('href')"
    buttons[0].send_keys(Keys.SPACE)
    assert browser.run(focused) == "by"
    assert browser.text("#looked") == "Your name first: others see who looks."
    # The level, the asset, and then the button.
    ActionChains(browser.driver).send_keys("Ada", *[Keys.TAB] * 3, Keys.ENTER).perform()
    browser.wait(lambda: "a1 of g1: looked after by Ada" in browser.text("#looked"), "what is read out")
    browser.wait(lambda: "looked after by Ada" in browser.text("#alerts tbody"), "who looks")
    assert not buttons[0].is_displayed()
    assert browser.run(focused) == "alert?agent=g1&id=of-a1"
    mark = json.loads(dashboard.ask("/api/alert?agent=g1&id=of-a1").body)["mark"]
    assert (mark["acknowledged"], mark["verdict"], mark["note"], mark["by"]) == (True, "", "", "Ada")
    browser.open(dashboard.page())
    browser.wait(lambda: "looked after by Ada" in browser.text("#alerts tbody"), "the mark")
    buttons = browser.driver.find_elements("css selector", "#alerts tbody button")
    (other,) = [each for each in buttons if each.is_displayed()]
    other.click()
    what = "looked after, known cause, no fault by Ada “<b>”"
    browser.wait(lambda: what in browser.text("#alerts tbody"), "what Bob said, and who looks")
    assert browser.text("#looked") == f"a2 of g1: {what}"


def test_a_row_that_moves_keeps_the_focus(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """Who goes through the list by keyboard goes on from there, also where somebody else looks after an alert."""
    for asset in ("a1", "a2", "a3"):
        send_alert(sender, asset)
    browser.open(dashboard.page())
    browser.wait(lambda: len(browser.texts("#alerts tbody tr")) == 3, "the alerts")
    first = browser.texts("#alerts tbody th a")[0]
    browser.run("document.querySelector('#alerts tbody button').focus()")
    said = {"agent": "g1", "id": f"of-{first}", "acknowledged": True, "by": "Bob", "time": "2026-11-21T10:17:00Z"}
    sender.send(f"edge/g1/marks/of-{first}", said, retain=True)
    browser.wait(lambda: browser.texts("#alerts tbody th a")[-1] == first, "that it went down")
    assert browser.run("return document.activeElement.getAttribute('href')") == f"alert?agent=g1&id=of-{first}"
    browser.run("document.querySelectorAll('#alerts tbody th a')[1].focus()")
    name = browser.run("return document.activeElement.textContent")
    said = {**said, "id": f"of-{name}"}
    sender.send(f"edge/g1/marks/of-{name}", said, retain=True)
    browser.wait(lambda: browser.text("#alerts tbody").count("by Bob") == 2, "the second one")
    assert browser.run("return document.activeElement.textContent") == name


def test_an_alert_that_nobody_could_be_told_to_look_after_says_so(
    browser: Browser, dashboard: Dashboard, broker: Broker, sender: Sender
) -> None:
    """While the broker is away, in the list as on the alert's page."""
    send_alert(sender, "a1")
    browser.open(dashboard.page())
    browser.wait(lambda: len(browser.texts("#alerts tbody tr")) == 1, "the alert")
    broker.stop()
    browser.wait(lambda: browser.text("#state").startswith("⚠ no connection"), "that the broker is away")
    browser.element("#by").clear()
    browser.element("#by").send_keys("Ada")
    browser.element("#alerts tbody button").click()
    browser.wait(lambda: "a1 of g1: not saved: there is no connection" in browser.text("#looked"), "that nothing is")
    assert "nobody yet" in browser.text("#alerts tbody")
    browser.forget()
    broker.start()


def test_what_had_most_to_do_with_an_alert_is_drawn_first(
    browser: Browser, dashboard: Dashboard, sender: Sender
) -> None:
    """Of many sensors not all are drawn, and the one that tells why stands at the end of the bundle's list."""
    names = [f"c{number}" for number in range(20)]
    channels = [ChannelShare("c19", 0.7, 1.0), ChannelShare("c5", 0.3, 1.0)]
    send_alert(sender, "a1", channels=channels)
    rows = [[f"2026-11-21T10:15:{second:02}Z", *range(20)] for second in range(3)]
    place = {"id": "of-a1", "agent": "g1", "stream": "pump", "asset": "a1"}
    sender.send("edge/g1/evidence/pump/a1", {**place, "channels": names, "rows": rows, "part": 1, "parts": 1})
    sender.drain()
    browser.open(dashboard.page("alert", agent="g1", id="of-a1"))
    browser.wait(lambda: len(browser.texts("#evidence h3")) == 16, "the readings")
    assert browser.texts("#evidence h3") == ["c19", "c5", *(name for name in names[:15] if name != "c5")]
    assert browser.run("return document.querySelector('#evidence .chart').chart.columns[1]") == [19, 19, 19]


def test_a_time_without_scores_has_no_line(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """It would say that all was well while nobody knew."""
    now = time.time()
    send_scores(sender, "a1", [8.0] * 10, start=now - 1_800)
    send_scores(sender, "a1", [8.0] * 10, start=now - 45)
    browser.open(dashboard.page("asset", agent="g1", stream="pump", asset="a1", length_s="0"))
    points = "return document.querySelector('#chart').chart.plot.data[0].length"
    browser.wait(lambda: browser.run(points) == 20, "the points")
    drawn = """
    const { plot } = document.querySelector('#chart').chart
    const wanted = getComputedStyle(document.documentElement).getPropertyValue('--curve').trim()
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(wanted.slice(at, at + 2), 16))
    const { left, top, width, height } = plot.bbox
    const { data } = plot.ctx.getImageData(left, top, width, height)
    const found = new Set()
    for (let at = 0; at < data.length; at += 4)
      if (data[at + 3] > 200 && [r, g, b].every((part, n) => Math.abs(data[at + n] - part) < 5))
        found.add(Math.floor((10 * ((at / 4) % width)) / width))
    return [...found].sort()
    """
    browser.wait(lambda: browser.run(drawn) == [0, 9], "the first and the last tenth alone")


def test_a_limit_far_below_one_score_can_be_seen(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """By a button that ends the chart there."""
    send_scores(sender, "a1", [2.0, 80_000.0, 3.0], start=time.time() - 10)
    browser.open(dashboard.page("asset", agent="g1", stream="pump", asset="a1"))
    top = "return document.querySelector('#chart').chart.plot.scales.y.max"
    browser.wait(lambda: (browser.run(top) or 0) > 80_000, "the chart")
    browser.element("#low").click()
    assert browser.run(top) == 27
    assert browser.element("#low").get_attribute("aria-pressed") == "true"
    browser.element("#low").click()
    assert browser.run(top) > 80_000


def test_times_are_written_as_the_reader_writes_them(browser: Browser, dashboard: Dashboard, sender: Sender) -> None:
    """Also along the chart: eight in the evening is not 8 in a plant that counts to 24."""
    send_scores(sender, "a1", [2.0, 3.0], start=time.time() - 5)
    browser.driver.execute_cdp_cmd("Emulation.setLocaleOverride", {"locale": "de-DE"})
    try:
        browser.open(dashboard.page("asset", agent="g1", stream="pump", asset="a1"))
        labels = "return document.querySelector('#chart').chart.plot.axes[0]._values"
        points = "return document.querySelector('#chart').chart.plot.data[0].length"
        browser.wait(lambda: browser.run(points) == 2, "the chart")
        for label in browser.run(labels):
            assert len(label.split("\n")[0]) == len("20:15"), label
        browser.element("#chart").send_keys("\ue011")  # Home
        told = browser.text("#chart .u-legend .u-value")
        assert len(told) == len("20:15:30"), told
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setLocaleOverride", {"locale": ""})


def test_no_number_and_no_time_is_broken_on_a_phone(dashboard: Dashboard, sender: Sender) -> None:
    """661 above 90 is not read as 66190. And a list of open alerts tells since when."""
    now = time.time()
    send_status(sender, "online", "connected", at=now)
    send_health(sender, 1)
    send_scores(sender, "unit-1", [2.0, 66_190.0], start=now - 5)
    times = {"time": iso_time(now), "since": iso_time(now)}
    for number in range(3):
        end = {"worst": 66_190.0 / 10**number, "duration_s": 6.5}
        send_alert(sender, "unit-1", id=f"x{number}", score=66_190.0, **times)
        send_alert(sender, "unit-1", "clear", id=f"x{number}", **times, **end)
    send_alert(sender, "unit-1", score=66_190.0, **times)
    sender.drain()
    with Browser((390, 844)) as browser:
        browser.driver.execute_cdp_cmd("Emulation.setLocaleOverride", {"locale": "de-DE"})
        browser.open(dashboard.page())
        browser.wait(lambda: len(browser.texts("#ended tbody tr")) == 3, "the alerts")
        browser.wait(lambda: "online" in browser.text("#agents"), "the agent")
        for css in ("#ended td:nth-child(3)", "#ended td:nth-child(4)", "#assets td.number", "#agents td:nth-child(2)"):
            assert all(one_line_each(browser, css)), css
        assert "since " in browser.text("#alerts tbody")
        browser.open(dashboard.page("asset", agent="g1", stream="pump", asset="unit-1"))
        browser.wait(lambda: len(browser.texts("#alerts tbody tr")) == 4, "its alerts")
        assert all(one_line_each(browser, "#alerts td:nth-child(4)"))
        assert all(one_line_each(browser, "#alerts thead th"))
        assert browser.run("return document.documentElement.scrollWidth") <= 390
