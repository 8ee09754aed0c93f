"""Host and Origin: which names are answered, and which pages may use the server."""

import itertools
import socket
from collections.abc import Callable

import pytest

from hrseg.cli import EXIT_USAGE, main
from hrseg.errors import ConfigError
from hrseg.serve.site import read_site
from tests.serve.conftest import Served, file_of, picture, sentence

PATHS = ("/", "/page.js", "/healthz", "/labels", "/metrics", "/openapi.json", "/predict", "/none")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")


def ask(url: str, *lines: str) -> int:
    """Send a request as it stands, and return the answer's status."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as one:
        one.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
        return int(one.makefile("rb").readline().split()[1])


def test_a_foreign_name_is_refused_at_every_path_by_every_method(served: Served) -> None:
    port = served.url.rpartition(":")[2]
    for method, path in itertools.product(METHODS, PATHS):
        status = ask(served.url, f"{method} {path} HTTP/1.1", f"Host: evil.example:{port}")
        assert status == 403, (method, path)
    answer = served.client.get("/labels", headers={"Host": "evil.example"})
    assert "'evil.example'; if it is the server's own" in sentence(answer, 403)


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        *((name, 200) for name in ("localhost", "LocalHost:80", "localhost.", "localhost.:8000")),
        *((name, 200) for name in ("127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8000", "[0:0::1]")),
        *((name, 403) for name in ("", "localhost.evil.example", "127.0.0.1.evil.example", "a@b")),
        *((name, 403) for name in ("localhost:x", "localhost..", "::1", "[::2]", "[::1", "0.0.0.0")),
        *((name, 403) for name in ("10.0.0.1", "user@localhost", "localhost/", "evil\xe9")),
        ("localhost\r\nHost: localhost", 400),
        (None, 400),
    ],
)
def test_names_of_this_machine_are_answered_in_every_spelling(served: Served, hosts: str | None, status: int) -> None:
    lines = [] if hosts is None else [f"Host: {hosts}"]
    assert ask(served.url, "GET /labels HTTP/1.1", *lines) == status


def test_a_request_without_a_name_is_refused_in_old_http_too(served: Served) -> None:
    assert ask(served.url, "GET /labels HTTP/1.0") == 403
    assert ask(served.url, "GET /labels HTTP/1.0", "Host: 127.0.0.1") == 200


def test_more_names_are_answered_where_they_are_given(start: Callable[..., Served]) -> None:
    one = start(allow_hosts=["Street.Example.org", "192.0.2.7:8000"])
    for name in ("street.example.org", "STREET.example.org.:443", "192.0.2.7", "localhost"):
        assert ask(one.url, "GET /healthz HTTP/1.1", f"Host: {name}") == 200, name
    assert ask(one.url, "GET /healthz HTTP/1.1", "Host: example.org") == 403


def test_on_other_addresses_names_are_compared_where_they_are_given() -> None:
    assert read_site("192.0.2.7", "192.0.2.7").hosts is None
    assert read_site("0.0.0.0", "0.0.0.0", ["a.example"]).hosts is not None
    assert read_site("::1", "ip6-localhost").hosts == {"localhost", "ip6-localhost", "::1"}


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://localhost:1"])
def test_pages_of_other_sites_are_refused_at_every_path(served: Served, origin: str) -> None:
    for method, path in itertools.product(("GET", "POST", "OPTIONS"), ("/", "/labels", "/predict")):
        answer = served.client.request(method, path, headers={"Origin": origin})
        assert "other sites" in sentence(answer, 403)


def test_two_origins_are_refused_in_any_order(served: Served) -> None:
    host = served.url.removeprefix("http://")
    both = [f"Origin: {served.url}", "Origin: http://evil.example"]
    for lines in (both, both[::-1], [both[0], both[0]]):
        assert ask(served.url, "POST /predict HTTP/1.1", f"Host: {host}", *lines) == 403


def test_pages_of_sites_that_are_named_may_use_the_server(start: Callable[..., Served]) -> None:
    one = start(token="sesame", allow_origins=["HTTPS://Maps.example:443/", "http://a.example:90"])
    allow, expose = "Access-Control-Allow-Origin", "Access-Control-Expose-Headers"
    for origin in ("https://maps.example", "http://a.example:90"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        headers["Access-Control-Request-Headers"] = "authorization, content-type"
        preflight = one.client.options("/predict", headers=headers)
        assert preflight.status_code == 200
        assert preflight.headers[allow] == origin
        assert "authorization" in preflight.headers["Access-Control-Allow-Headers"]
        answer = one.client.post("/predict", headers={"Origin": origin})
        sentence(answer, 401)
        assert answer.headers[allow] == origin
        assert answer.headers[expose] == "Retry-After"
    headers = {"Origin": "https://maps.example", "Authorization": "Bearer sesame"}
    headers |= {"Content-Type": "image/png"}
    answer = one.client.post("/predict", content=file_of(picture()), headers=headers)
    assert (answer.status_code, answer.headers[allow]) == (200, "https://maps.example")
    for origin in ("http://maps.example", "https://maps.example:444", "https://a.maps.example"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for method in ("OPTIONS", "POST", "GET"):
            answer = one.client.request(method, "/predict", headers=headers)
            assert (answer.status_code, allow in answer.headers) == (403, False)
    assert one.client.get("/healthz", headers={"Origin": one.url}).status_code == 200


def test_all_sites_may_be_allowed(start: Callable[..., Served]) -> None:
    one = start(allow_origins=["*"])
    answer = one.client.get("/labels", headers={"Origin": "http://any.example"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "*")


def test_names_and_origins_that_no_browser_sends_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for host in ("http://a.example", "a.example/x", "", "a b", "*", "*.example", "[::1"):
        with pytest.raises(ConfigError, match=r"--allow-host .* without scheme"):
            read_site("127.0.0.1", "127.0.0.1", [host])
    for origin in ("a.example", "null", "ftp://a", "http://", "http://a/x", "http://a:x", ""):
        with pytest.raises(ConfigError, match=r"--allow-origin .* https://example\.org"):
            read_site("127.0.0.1", "127.0.0.1", [], [origin])
    words = ["serve", "--port", "0", "--allow-host", "a", "b", "--allow-origin", "maps.example"]
    assert main(words) == EXIT_USAGE
    assert "--allow-origin maps.example is not" in " ".join(capsys.readouterr().err.split())
