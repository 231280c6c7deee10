"""What is written for a person: one line is one line, and nothing in a name is obeyed."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console  # noqa: TID251 -- it is the terminal here

from edge_agent.cli.app import main
from edge_agent.cli.log import configure_logging
from edge_agent.errors import ConfigError
from edge_agent.messages.text import shown
from edge_agent.terminal import begin, complain, json_text, say, traceback_text
from edgetool import progress


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("Température 20 °C, 压力, Ω, 🚜", "Température 20 °C, 压力, Ω, 🚜"),
        ("a\x1b[2J\x07\x7f", r"a\x1b[2J\x07\x7f"),
        ("a\r\n\tb", r"a\r\n\tb"),
        ("\x85\x9b\xa0\xad", r"\x85\x9b\xa0\xad"),
        ("\u2028\u2029\u202e\u2066\u200b\ufeff\ue000", r"\u2028\u2029\u202e\u2066\u200b\ufeff\ue000"),
        ("\udcff \U000e0041", r"\udcff \U000e0041"),
        ("C:\\n [red]", "C:\\n [red]"),
    ],
)
def test_what_is_not_printable_is_shown_escaped(text: str, escaped: str) -> None:
    """Letters, signs and emoji of all languages stay as they are."""
    assert shown(text) == escaped


@given(st.text(st.characters()))
def test_what_is_shown_is_printable_and_in_one_line(text: str) -> None:
    """Whatever the text."""
    assert shown(text).isprintable()
    assert shown(shown(text)) == shown(text)


@given(st.dictionaries(st.text(st.characters()), st.text(st.characters())))
def test_json_is_the_same_document_in_printable_characters(document: dict[str, str]) -> None:
    """Also with a character that UTF-8 has no bytes for."""
    text = json_text(document)
    assert json.loads(text) == document
    assert text.isascii()
    assert text.isprintable()


def test_one_call_writes_one_line_for_each_problem(capsys: pytest.CaptureFixture[str]) -> None:
    """The program's own line ends are between problems, and not in them."""
    say("pump\nforged")
    complain("edge-agent", ConfigError("a\nforged", "b"))
    captured = capsys.readouterr()
    assert captured.out == "pump\\nforged\n"
    assert captured.err == "edge-agent: a\\nforged\nedge-agent: b\n"
    assert str(ConfigError("a", "b")) == "a\nb"


def test_a_wrong_argument_is_quoted_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """argparse would write it as it is."""
    with pytest.raises(SystemExit, match="2"):
        main(["version", "\x1b[2J\nforged"])
    assert capsys.readouterr().err.endswith("edge-agent: error: unrecognized arguments: \\x1b[2J\\nforged\n")


def raise_in_turn() -> None:
    try:
        raise OSError("first\x1b\nforged")
    except OSError as exc:
        raise ValueError("second\nforged") from exc


def test_a_traceback_has_no_lines_but_its_own() -> None:
    """Messages quote names; the frames stay as Python writes them."""
    with pytest.raises(ValueError, match="second") as caught:
        raise_in_turn()
    lines = traceback_text(caught.value).split("\n")
    assert lines[0] == "Traceback (most recent call last):"
    assert r"OSError: first\x1b\nforged" in lines
    assert "The above exception was the direct cause of the following exception:" in lines
    assert lines[-1] == r"ValueError: second\nforged"
    assert '    raise ValueError("second\\nforged") from exc' in lines
    assert not [line for line in lines if line.startswith("forged")]


def test_a_bug_ends_in_that_traceback_on_any_thread(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what the encoding of stdout has not is no bug."""
    for place in (sys, threading):
        monkeypatch.setattr(place, "excepthook", place.__excepthook__)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    begin()
    say("20 °C, 压力")
    stream.seek(0)
    assert stream.read() == "20 \\xb0C, \\u538b\\u529b\n"
    thread = threading.Thread(target=raise_in_turn)
    thread.start()
    thread.join()
    with pytest.raises(ValueError, match="second") as caught:
        raise_in_turn()
    sys.excepthook(caught.type, caught.value, caught.tb)
    err = capsys.readouterr().err
    assert err.count("\nValueError: second\\nforged\n") == 2
    assert "\nforged" not in err


@pytest.fixture
def _root_logger() -> Iterator[None]:
    """It is pytest's."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("_root_logger")
def test_a_message_of_the_log_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in it are arguments, and only a traceback adds lines."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("info")
    log = logging.getLogger("edge_agent")
    log.warning("model changed name=%s", "x\x1b[2J\u202e\nERROR forged")
    try:
        raise_in_turn()
    except ValueError:
        log.exception("stopped why=%s", "\r")
    lines = stream.getvalue().split("\n")
    assert lines[0].endswith(r" WARNING edge_agent model changed name=x\x1b[2J\u202e\nERROR forged")
    assert lines[1].endswith(r" ERROR edge_agent stopped why=\r")
    assert lines[2] == "Traceback (most recent call last):"
    assert lines[-2:] == [r"ValueError: second\nforged", ""]


def test_progress_obeys_nothing_in_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a terminal's commands nor markup of rich, in a bar and in a spinner."""
    for show in (lambda name: progress.counted(name, 3), progress.working):
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stderr", stream)
        terminal = Console(file=stream, force_terminal=True, width=200)
        monkeypatch.setattr(progress, "console", lambda terminal=terminal, **_: terminal)
        with show("pump\x1b]0;owned\x07\n[red]forged"):
            terminal.print("something")  # draws what is in progress once more
        assert "]0;owned" in stream.getvalue()
        assert "\x1b]0" not in stream.getvalue()
        assert r"\x07\n[red]forged" in stream.getvalue()
