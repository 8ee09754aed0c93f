"""Names that a server answers to, and other sites whose pages may use it."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers

from hrseg.errors import ConfigError
from hrseg.serve.requests import RequestError

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]*[a-z0-9_-])\.?(?::[0-9]{0,5})?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class Site:
    """Names of a server, and sites whose pages may use it.

    Attributes:
        hosts: Names and addresses that a Host header may hold; None allows any.
        origins: Origins beside the server's own, such as "https://example.org"; "*" allows any.
    """

    hosts: frozenset[str] | None = None
    origins: tuple[str, ...] = ()

    def check(self, headers: Headers) -> None:
        """Refuse requests for other names, and those of other sites' pages.

        A page whose name is re-pointed to 127.0.0.1 (DNS rebinding) has the server's address, and a Host header that
        tells it apart; starlette's TrustedHostMiddleware takes no IPv6 address and compares case.

        Raises:
            RequestError: The Host or Origin header is absent, double or not allowed.
        """
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if self.hosts is not None:
            name = host_name(hosts[0]) if len(hosts) == 1 else None
            if name not in self.hosts and not is_loopback(name):
                shown = f"the name '{hosts[0][:80]}'" if hosts else "requests without a Host header"
                raise RequestError(
                    403,
                    f"This server does not answer to {shown}; if it is the server's own, start it with --allow-host.",
                )
        own = [host.lower() for host in hosts]
        for origin in origins:
            foreign = origin.partition("://")[2].lower() not in own and "*" not in self.origins
            if len(origins) > 1 or (foreign and origin not in self.origins):
                raise RequestError(
                    403,
                    "Pages of other sites may not use this server; open its own page, or start it with --allow-origin.",
                )


def read_site(address: str, host: str, allow_hosts: Iterable[str] = (), allow_origins: Iterable[str] = ()) -> Site:
    """Return the site of a server: on a loopback address, or where names are given, only those are answered.

    Args:
        address: IP address that the server listens on.
        host: What the user called it.
        allow_hosts: More names and addresses; ports are not compared.
        allow_origins: Origins of other sites.

    Raises:
        ConfigError: One that no browser sends.
    """
    more = {_read_host(text) for text in allow_hosts}
    origins = tuple(_read_origin(text) for text in allow_origins)
    if not more and not is_loopback(address):
        return Site(None, origins)
    return Site(frozenset({"localhost", host.lower(), address, *more}), origins)


def host_name(host: str) -> str | None:
    """Return the name in a Host header in its one spelling, without port; None where it is not well-formed.

    Example:
        >>> host_name("LocalHost.:8000"), host_name("[0:0::1]:80"), host_name("a@b")
        ('localhost', '::1', None)
    """
    found = _HOST.fullmatch(host)
    if not found:
        return None
    name = found[1].lower().strip("[]")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name if found[1][0] != "[" else None


def is_loopback(name: str | None) -> bool:
    """Return whether a name is an IP address that only this machine reaches."""
    try:
        return ipaddress.ip_address((name or "").partition("%")[0]).is_loopback
    except ValueError:
        return False


def _read_host(text: str) -> str:
    name = host_name(f"[{text}]" if text.count(":") > 1 and text[:1] != "[" else text)
    if name is None:
        raise ConfigError(
            f"--allow-host {text} is not a name or address as browsers send it. Give one without scheme and path, such "
            "as: --allow-host example.org"
        )
    return name


def _read_origin(text: str) -> str:
    scheme, sign, host = text.lower().removesuffix("/").partition("://")
    if text != "*" and (scheme not in _DEFAULT_PORTS or host_name(host) is None):
        raise ConfigError(
            f"--allow-origin {text} is not an origin as browsers send it. Give scheme, name and, where the address "
            "has one, port, such as: --allow-origin https://example.org; or '*' for pages of any site."
        )
    return "*" if text == "*" else scheme + sign + host.removesuffix(_DEFAULT_PORTS[scheme])
