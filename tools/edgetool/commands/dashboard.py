"""`edgetool dashboard`: a page beside a broker that shows the fleet while it works."""

from __future__ import annotations

import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.errors import BrokerError, UsageError
from edge_agent.mqtt.credentials import read_secret
from edge_agent.mqtt.settings import is_this_machine
from edgetool.broker import BrokerAddress, Session
from edgetool.extras import require
from edgetool.paths import StrPath, as_path
from edgetool.subscription import Subscription

if TYPE_CHECKING:
    import uvicorn

    from edgetool.monitoring.fleet import Fleet
    from edgetool.monitoring.guard import Access
    from edgetool.monitoring.server import Parts

__all__ = ["dashboard"]

_TOKEN_CHARACTERS = 16
_STOP_S = 3
"""For requests that are being answered when the dashboard ends."""
_DAYS, _MOST_MB = 7.0, 2_000.0
_OWN_MB = 200.0
"""Most that is kept where no file is given."""
_CONNECTIONS = 300
_SESSION_S = 3 * 86_400
"""How long a broker keeps alerts for a dashboard that is away: over a long weekend."""


def dashboard(
    broker: BrokerAddress | None = None,
    *,
    listen: str = "127.0.0.1:8080",
    history: StrPath | None = None,
    days: float | None = None,
    history_mb: float | None = None,
    token_file: StrPath | None = None,
    behind_proxy: bool = False,
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve pages about all agents at a broker, until SIGTERM or Ctrl-C.

    A broker that is away is waited for.

    Args:
        broker: the local one when not given.
        listen: HOST:PORT, with an IPv6 address in brackets; port 0 takes any that is free.
        history: where what was heard is kept, together with a name at the broker, which keeps alerts for it while
            nobody has it open; when not given, in a temporary file that goes with this process.
        days: how long the history is kept; 7 when not given.
        history_mb: beyond this the oldest of the history is deleted, megabytes; 2,000 when not given.
        token_file: a file with what a visitor has to know, 16 characters at least; needed where others than this
            machine can reach the pages.
        behind_proxy: requests come by a proxy, so they may name any host. It says who may come, unless a token does.
        on_ready: called with the address of the pages once they can be opened.

    Raises:
        BrokerError: there is no host of that name, its certificate is not good, or it refuses us or the subscription.
        DataError: the history cannot be used.
        MissingExtraError: the extra `dashboard` is not installed.
        UsageError: an argument cannot be meant, or the address is taken.
    """
    require("uvicorn", extra="dashboard")
    require("starlette", extra="dashboard")
    file = as_path(history)
    if file is None and (days is not None or history_mb is not None):
        raise UsageError("--days and --history-mb: bound the file of --history; give that, too, or leave them out")
    host, port = _address(listen)
    access = _access(host, token_file, behind_proxy=behind_proxy)
    from edgetool.monitoring.connection import Connection
    from edgetool.monitoring.fleet import Fleet
    from edgetool.monitoring.history import History
    from edgetool.monitoring.intake import PASSING, TOPICS, Intake
    from edgetool.monitoring.marking import Marking, Renewing
    from edgetool.monitoring.server import Parts
    from edgetool.monitoring.taking import Taking

    broker = broker or BrokerAddress()
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(host, port))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgetool-dashboard-"))
        limit_mb = _OWN_MB if file is None else history_mb or _MOST_MB
        kept = stack.enter_context(History(file or Path(folder) / "history.db", days=days or _DAYS, limit_mb=limit_mb))
        fleet = Fleet()
        intake = Intake(fleet, kept)
        _restore(fleet, kept.file)
        arrived = Subscription(TOPICS, passing=PASSING)
        session = None if file is None else Session(kept.client_id, _SESSION_S)
        server = _Server()
        connection = Connection(broker, arrived.listen, session=session, on_error=server.end)
        marking = Marking(connection, fleet, kept)
        renewing = Renewing(fleet, marking.publish, arrived)
        parts = Parts(fleet, kept, intake, marking, access, connection, server.is_ending)
        taking = stack.enter_context(Taking(arrived, intake, [kept.commit_if_due, renewing.tick], server.end))
        stack.enter_context(connection)
        server.serve(parts, listener, lambda: on_ready(_url(listener)))
        for error in (taking.error, connection.error):
            if error is not None:
                raise error


class _Server:
    """The web server, on this thread until a signal or `end`."""

    def __init__(self) -> None:
        self._is_over = False
        self._server: uvicorn.Server | None = None

    def end(self) -> None:
        """End it; may be called on any thread."""
        self._is_over = True
        if self._server is not None:
            self._server.should_exit = True

    def is_ending(self) -> bool:
        """Whether it is to end."""
        return self._is_over or (self._server is not None and self._server.should_exit)

    def serve(self, parts: Parts, listener: socket.socket, on_ready: Callable[[], None]) -> None:
        """Answer what comes to a socket, until it is to end."""
        import uvicorn

        from edgetool.monitoring.server import application

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                on_ready()

        config = uvicorn.Config(
            application(parts),
            log_config=None,
            access_log=False,
            server_header=False,
            # What a proxy says of whom it asks for is used for nothing.
            proxy_headers=False,
            ws="none",
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_STOP_S,
        )
        server = self._server = Server(config)
        server.should_exit = self._is_over
        with _signals_end_only_the_server():
            server.run(sockets=[listener])


@contextmanager
def _signals_end_only_the_server() -> Iterator[None]:
    """Uvicorn sends itself again the signal that ended it, once it has ended; this process has more to put away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _restore(fleet: Fleet, file: Path) -> None:
    from edgetool.monitoring.questions import restored

    assets, alerts, marks = restored(file)
    for asset, points in assets:
        fleet.restore(asset, points)
    for alert in alerts:
        fleet.take_alert(alert)
    for mark in marks:
        fleet.take_mark(mark)


def _address(listen: str) -> tuple[str, int]:
    """HOST and PORT.

    Raises:
        UsageError: it is something else.
    """
    host, colon, port = listen.rpartition(":")
    name = host.removeprefix("[").removesuffix("]")
    with suppress(ValueError):
        if colon and name and (":" not in name or host.startswith("[")) and 0 <= int(port) <= 65_535:
            return name, int(port)
    raise UsageError(f"--listen {listen!r}: expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")


def _access(host: str, token_file: StrPath | None, *, behind_proxy: bool) -> Access:
    """Who may see the pages.

    Raises:
        UsageError: everybody could, or the token cannot be used.
    """
    from edgetool.monitoring.guard import Access

    token = None
    file = as_path(token_file)
    if file is not None:
        try:
            token = read_secret(file, named=f"--token-file {str(file)!r}").strip()
        except BrokerError as exc:
            raise UsageError(str(exc)) from exc
        if len(token) < _TOKEN_CHARACTERS:
            raise UsageError(f"--token-file {str(file)!r}: expected {_TOKEN_CHARACTERS} characters or more")
    is_local = is_this_machine(host)
    if not is_local and token is None and not behind_proxy:
        raise UsageError(
            f"--listen {host}: others can reach it; give --token-file FILE, or --behind-proxy if a proxy asks who comes"
        )
    return Access(token, only_this_machine=is_local and not behind_proxy)


@contextmanager
def _listener(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens.

    Raises:
        UsageError: it cannot be had.
    """
    try:
        found: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listener = socket.create_server(found[0][4][:2], family=found[0][0], backlog=128)
    except OSError as exc:
        why = (exc.strerror or str(exc)).partition(" (while")[0]
        raise UsageError(f"--listen {host}:{port}: cannot be had ({why})") from exc
    with listener:
        yield listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
