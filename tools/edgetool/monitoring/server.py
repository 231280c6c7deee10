"""The pages and what they ask for, as one application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from edge_agent.errors import DataError
from edge_agent.messages.text import decode
from edgetool.monitoring.connection import Connection
from edgetool.monitoring.exposition import exposition
from edgetool.monitoring.fleet import Fleet
from edgetool.monitoring.guard import COOKIE, Access, Guard
from edgetool.monitoring.history import History
from edgetool.monitoring.intake import Intake
from edgetool.monitoring.live import Live, TooManyViewersError
from edgetool.monitoring.marking import Marking, NotMarkedError, UnknownAlertError
from edgetool.monitoring.questions import alert_story, curve

__all__ = ["Parts", "application"]

_STATIC = Path(__file__).with_name("static")
_PAGES = {"": "fleet.html", "asset": "asset.html", "alert": "alert.html"}
"""Files of `static` by path. All are on one level, so that their links hold below whatever path a proxy shows them."""
_BODY_BYTES = 16_384
_COOKIE_S = 30 * 86_400
_LONGEST_S = 3660 * 86_400.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application answers from."""

    fleet: Fleet
    history: History
    intake: Intake
    marking: Marking
    access: Access
    connection: Connection
    is_over: Callable[[], bool]
    """Whether the dashboard is to end."""


def application(parts: Parts) -> ASGIApp:
    """The application, behind its guard."""
    answers = _Answers(parts)
    routes = [
        *(Route(f"/{path}", answers.page(name)) for path, name in _PAGES.items()),
        Route("/events", answers.events),
        Route("/api/open", answers.open),
        Route("/api/curve", answers.curve),
        Route("/api/alert", answers.alert),
        Route("/api/mark", answers.mark, methods=["POST"]),
        Route("/login", answers.login, methods=["GET", "POST"]),
        Route("/metrics", answers.metrics),
        Route("/healthz", answers.healthz),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    app = Starlette(routes=routes, lifespan=answers.lifespan)
    answers.guard = Guard(app, parts.access)
    return answers.guard


class _Answers:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._live = Live(parts.fleet, self._figures)
        self.guard: Guard

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """The time in which pages are answered."""
        told = asyncio.create_task(self._live.run(self._parts.is_over))
        yield
        told.cancel()

    def page(self, name: str) -> Callable[[Request], Any]:
        """What answers with one of the pages, which are the same for everybody and fetch what they show."""

        async def answer(_request: Request) -> Response:
            return FileResponse(_STATIC / name, media_type="text/html")

        return answer

    async def events(self, request: Request) -> Response:
        """What happens, as it happens."""
        stream = self._live.stream(request.query_params.get("asset"))
        try:
            first = await anext(stream)
        except TooManyViewersError:
            return PlainTextResponse("too many pages are open", 503)

        async def all_of_it() -> AsyncIterator[bytes]:
            try:
                yield first
                async for message in stream:
                    yield message
            finally:
                await stream.aclose()  # type: ignore[attr-defined]  # it is a generator

        # A proxy that gathers output before it passes it on would hold back what happens.
        return StreamingResponse(all_of_it(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def open(self, _request: Request) -> Response:
        """How many alerts are open, for a page that nobody sees."""
        told = {"open": self._parts.fleet.counts()["alerts_open"], "connected": self._parts.connection.is_connected()}
        return Response(msgspec.json.encode(told), media_type="application/json")

    async def curve(self, request: Request) -> Response:
        """The scores of one asset over time."""
        asked = request.query_params
        where = [asked.get(name, "") for name in ("agent", "stream", "asset")]
        try:
            length_s = min(max(float(asked.get("length_s", 3600)), 0.0), _LONGEST_S)
            end = float(asked["end"]) if "end" in asked else None
        except ValueError:
            return PlainTextResponse("length_s and end: expected seconds", 400)
        return await self._from_history(lambda file: curve(file, *where, length_s=length_s, end=end))

    async def alert(self, request: Request) -> Response:
        """One alert with its story."""
        agent, alert_id = (request.query_params.get(name, "") for name in ("agent", "id"))
        fleet = self._parts.fleet
        mark = fleet.mark_of(agent, alert_id) if fleet.has_mark(agent, alert_id) else None
        return await self._from_history(lambda file: alert_story(file, agent, alert_id, mark))

    async def mark(self, request: Request) -> Response:
        """What a person says of an alert."""
        try:
            asked = decode(await _body(request), dict[str, Any])
            marked = await run_in_threadpool(self._parts.marking.mark, asked)
        except ValueError as exc:
            return PlainTextResponse(str(exc), 400)
        except UnknownAlertError as exc:
            return PlainTextResponse(str(exc), 404)
        except NotMarkedError as exc:
            return PlainTextResponse(str(exc), 503)
        return Response(msgspec.json.encode(marked), media_type="application/json")

    async def login(self, request: Request) -> Response:
        """Ask for the token, and remember in the browser that it was known."""
        access, goal = self._parts.access, _own_page(request.query_params.get("next", ""))
        if request.method != "POST":
            return HTMLResponse(_login_page(""))
        try:
            given = parse_qs((await _body(request)).decode()).get("token", [""])[0]
        except ValueError:
            given = ""
        if not access.knows(given.strip()):
            return await self.guard.wrong(HTMLResponse(_login_page("That is not the token."), 401))
        answer = RedirectResponse(goal, 303)
        answer.set_cookie(
            COOKIE,
            access.cookie,
            max_age=_COOKIE_S,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    async def metrics(self, _request: Request) -> Response:
        """For Prometheus."""
        text = exposition(self._figures(), self._parts.fleet.counts(), self._parts.intake, self._parts.history)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def healthz(self, _request: Request) -> Response:
        """Whether it works, for whoever keeps it running."""
        # Anybody may ask this, so it has no name of a machine or of a file.
        problem = "" if self._parts.connection.is_connected() else "no connection to the broker"
        problem = problem or (self._parts.history.problem and "the history cannot be written")
        return PlainTextResponse(f"not well: {problem}\n" if problem else "well\n", 503 if problem else 200)

    def _figures(self) -> dict[str, Any]:
        parts = self._parts
        return {
            "connected": parts.connection.is_connected(),
            "broker_problem": parts.connection.problem,
            "history_problem": parts.history.problem,
            "doubted": sum(parts.intake.doubted.values()),
            "viewers": self._live.viewers,
        }

    async def _from_history(self, ask: Callable[[Path], dict[str, Any] | None]) -> Response:
        def work() -> dict[str, Any] | None:
            self._parts.history.commit()  # so that what came a moment ago is in the answer
            return ask(self._parts.history.file)

        try:
            answer = await run_in_threadpool(work)
        except DataError as exc:
            return PlainTextResponse(str(exc), 503)
        if answer is None:
            return PlainTextResponse("nothing was heard here of such an alert", 404)
        return Response(msgspec.json.encode(answer), media_type="application/json")


async def _body(request: Request) -> bytes:
    """The body of a request.

    Raises:
        ValueError: it is too long.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _BODY_BYTES:
            raise ValueError(f"expected at most {_BODY_BYTES} bytes")
    return body


def _own_page(asked: str) -> str:
    """Where a visitor goes on from the form, relative to it; the first page where that is no page of ours."""
    return f"./{asked}" if asked.partition("?")[0] in _PAGES and asked.isprintable() else "./"


def _login_page(problem: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>edgetool dashboard</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="static/icon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="static/style.css"></head><body><main class="login"><h1>edgetool dashboard</h1>'
        f'<form method="post"><p role="alert">{escape(problem)}</p><label>Token '
        '<input name="token" type="password" autocomplete="current-password" autofocus required></label> '
        "<button>Enter</button></form></main></body></html>"
    )
