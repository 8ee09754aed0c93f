"""Listening: one socket, one process, and an end that leaves nobody waiting."""

import contextlib
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from hrseg.errors import ConfigError
from hrseg.inference.predictor import Predictor
from hrseg.serve.app import create_app
from hrseg.serve.requests import Limits

log = logging.getLogger(__name__)

SPARE_CONNECTIONS = 512
"""Beyond the places: clients that are told to come again, and pages that stay open."""


@dataclass
class Running:
    """A server that listens.

    Attributes:
        app: The application.
        url: Where it is.
        server: Set `server.should_exit` to end it.
        listener: Its socket.
    """

    app: FastAPI
    url: str
    server: uvicorn.Server
    listener: socket.socket

    def serve(self) -> None:
        """Answer until a signal comes or `server.should_exit` is set; what was accepted is finished first."""
        self.server.run(sockets=[self.listener])


class _Server(uvicorn.Server):
    """Ends well at SIGTERM and SIGINT: uvicorn would raise the signal again when all is done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen to both signals while the server runs."""
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
) -> Running:
    """Open the socket and build the application.

    Args:
        predictor: The network with its labels.
        model: Its name, as people know it.
        host: Address; 127.0.0.1 is seen from this machine only.
        port: Number, 0 for any that is free.
        limits: Bounds; None takes the defaults.
        token: The password, or None.

    Raises:
        ConfigError: The address cannot be used, or the model cannot be served.
    """
    limits = limits or Limits()
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # nor are broken forms
    app = create_app(predictor, model, limits, token)
    listener = _bind(host, port)
    address, number = listener.getsockname()[:2]
    if token is None and not _is_local(address):
        log.warning(
            "Everybody who reaches %s can use this server. Set a token: --token-file FILE", address
        )
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",  # clients that speak no HTTP are no news
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.max_queue + SPARE_CONNECTIONS,
        timeout_graceful_shutdown=round(2 * limits.timeout) + 5,
    )
    shown = f"[{address}]" if ":" in address else address
    return Running(app, f"http://{shown}:{number}", _Server(config), listener)


def model_name(model: str | None, default: str) -> str:
    """Return what people call a model: its tag, or its file without the folders above its run.

    Example:
        >>> model_name("runs/mine/best.ckpt", "x"), model_name("small.onnx", "x"), model_name(None, "x")
        ('mine/best.ckpt', 'small.onnx', 'x')
    """
    if model is None:
        return default
    path = Path(model)
    return (
        f"{path.parent.name}/{path.name}"
        if path.suffix == ".ckpt" and path.parent.name
        else path.name
    )


def _bind(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise ConfigError(
            f"Port {port} cannot be used: ports go from 0 to 65535. Such as: --port 8000"
        )
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{host}:{port} cannot be used: {why}. Choose another port, such as --port {port % 65535 + 1}, or "
            "--port 0 for any that is free; --host takes an address of this machine."
        ) from error


def _is_local(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
