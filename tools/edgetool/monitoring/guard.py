"""Who may ask for what: the check in front of every page, and the headers behind it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_agent.mqtt.settings import is_this_machine

__all__ = ["COOKIE", "Access", "Guard"]

COOKIE = "edgetool-dashboard"
_OPEN_PATHS = {"/healthz", "/login", "/static/style.css", "/static/icon.svg"}
"""What may be seen without a token."""
_WRONG_WAIT_S = 1.0
_WRONG_AT_ONCE = 10

_HEADERS = {
    # Nothing comes from elsewhere, no script stands in a page, and nobody frames it.
    "content-security-policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    # With no-referrer, a browser would name no origin where a form is sent.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask."""

    token: str | None = None
    """What a visitor has to know; None asks nobody."""
    only_this_machine: bool = True
    """Whether requests have to name this machine as their host. A page of somebody else's can have a name of its own
    lead here (DNS rebinding), and would read everything."""

    @property
    def cookie(self) -> str:
        """What a browser is given that knew the token, and which is not the token."""
        return hmac.new((self.token or "").encode(), b"edgetool dashboard, visitor", hashlib.sha256).hexdigest()

    def knows(self, given: str) -> bool:
        """Whether somebody gave the token."""
        return self.token is None or hmac.compare_digest(given.encode(), self.token.encode())

    def lets_in(self, headers: Headers) -> bool:
        """Whether a request comes from somebody who knew the token."""
        if self.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(given.strip()):
            return True
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return found is not None and hmac.compare_digest(found.value.encode(), self.cookie.encode())


class Guard:
    """Lets through what `Access` allows.

    Args:
        app: what answers.
        access: the rules.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._wrong = 0
        """Visitors who wait because what they gave was wrong."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith("/static/"):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None and refusal.status_code == 401:
            refusal = await self._slowed(scope, refusal)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self._access.only_this_machine and not is_this_machine(_host_name(headers.get("host", ""))):
            return PlainTextResponse("this dashboard is for its own machine only, by the name localhost", 421)
        if scope["method"] not in ("GET", "HEAD") and not _is_from_our_page(headers):
            return PlainTextResponse("only the dashboard's own pages may do that", 403)
        if scope["path"] in _OPEN_PATHS or self._access.lets_in(headers):
            return None
        if "text/html" in headers.get("accept", ""):
            path = scope["path"].removeprefix("/")
            asked = path + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
            # Relative, because a proxy may show all this below a path of its own.
            return RedirectResponse(f"{'../' * path.count('/')}login?next={quote(asked, safe='')}", 303)
        return PlainTextResponse("a token is needed", 401, {"www-authenticate": "Bearer"})

    async def _slowed(self, scope: MutableMapping[str, Any], refusal: Response) -> Response:
        """Let a guess take its time."""
        if "authorization" not in Headers(scope=scope):
            return refusal
        return await self.wrong(refusal)

    async def wrong(self, refusal: Response) -> Response:
        """The answer to whoever gave a wrong token, after a while; at once where many do."""
        if self._wrong >= _WRONG_AT_ONCE:
            return PlainTextResponse("too many wrong tokens; try again later", 429)
        self._wrong += 1
        try:
            await asyncio.sleep(_WRONG_WAIT_S)
        finally:
            self._wrong -= 1
        return refusal


def _host_name(host: str) -> str:
    """The name in a Host header, without a port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_from_our_page(headers: Headers) -> bool:
    """Whether a browser says that a page of this very host sends it. Programs that are no browser say nothing."""
    site = headers.get("sec-fetch-site")
    if site is not None:  # only over HTTPS and on this machine do browsers say so
        return site == "same-origin"
    return urlsplit(headers.get("origin", "")).netloc == headers.get("host") != ""
