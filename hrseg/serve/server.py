"""Listening socket and uvicorn server; requests in progress are finished at shutdown."""

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from hrseg.errors import ConfigError
from hrseg.inference.predictor import Predictor
from hrseg.serve.app import create_app
from hrseg.serve.connections import Connection
from hrseg.serve.requests import Limits
from hrseg.serve.site import is_loopback, read_site

log = logging.getLogger(__name__)


@dataclass
class Running:
    """A listening server; set `server.should_exit` to end it."""

    app: FastAPI
    url: str
    server: uvicorn.Server
    listener: socket.socket

    def serve(self) -> None:
        """Serve until a signal comes or `server.should_exit` is set; accepted requests are finished first."""
        self.server.run(sockets=[self.listener])


class _Server(uvicorn.Server):
    """Exits with 0 at SIGTERM and SIGINT; uvicorn would raise the signal again after shutdown."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle both signals while the server runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {name: signal.signal(name, self.handle_exit) for name in signals}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)


def listen(
    predictor: Predictor,
    *,
    model: str = "model",
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    token: str | None = None,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
) -> Running:
    """Open the socket and build the application.

    Args:
        predictor: The network with its labels.
        model: Display name.
        host: Address; 127.0.0.1 is reachable from this machine only.
        port: 0 takes any that is free.
        limits: None takes the defaults.
        token: Required of clients, or None.
        allow_hosts: Names that a Host header may hold, beside those of this machine; the header is checked on a
            loopback address, or where names are given.
        allow_origins: Origins of sites whose pages may use the server; "*" stands for all.

    Raises:
        ConfigError: The address, a name or an origin cannot be used, or the model cannot be served.
    """
    limits = limits or Limits()
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # broken forms are no news
    listener = _bind(host, port)
    address, number = listener.getsockname()[:2]
    try:
        site = read_site(address, host, allow_hosts, allow_origins)
        app = create_app(predictor, model, limits, token, site)
    except ConfigError:
        listener.close()
        raise
    if token is None and not is_loopback(address):
        log.warning("Everybody who reaches %s can use this server. Set a token: --token-file FILE", address)
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",  # clients that speak no HTTP are no news
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(2 * limits.timeout) + 5,
    )
    shown = f"[{address}]" if ":" in address else address
    return Running(app, f"http://{shown}:{number}", _Server(config), listener)


def model_name(model: str | None, default: str) -> str:
    """Return the display name of a model: its tag, or its file without the folders above its run.

    Example:
        >>> model_name("runs/mine/best.ckpt", "x"), model_name("small.onnx", "x"), model_name(None, "x")
        ('mine/best.ckpt', 'small.onnx', 'x')
    """
    if model is None:
        return default
    path = Path(model)
    in_run = path.suffix == ".ckpt" and path.parent.name
    return f"{path.parent.name}/{path.name}" if in_run else path.name


def _bind(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise ConfigError(f"Port {port} cannot be used: ports go from 0 to 65535. Such as: --port 8000")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{host}:{port} cannot be used: {reason}. Choose another port, such as --port {port % 65535 + 1}, or "
            "--port 0 for any that is free; --host takes an address of this machine."
        ) from error
