"""A stand-in for the Hugging Face hub on loopback: the small part of its API that push and pull use."""

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hrseg
from hrseg.weights import write_release

TOKEN = "hf_good"


@dataclass
class Hub:
    """What the hub keeps, and how it behaves.

    Repositories map commit → files; refs map branch → commit. Names in `cut` break off in the middle of their
    weights, those in `private` want the token, those in `locked` refuse writing.
    """

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    refs: dict[str, dict[str, str]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    private: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    url: str = ""

    def put(self, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Commit files to a branch, as if somebody had pushed them."""
        commits = self.repositories.setdefault(name, {})
        branches = self.refs.setdefault(name, {})
        parent = commits.get(branches.get(branch, ""), {})
        commit = hashlib.sha1(f"{name}{branch}{len(commits)}".encode()).hexdigest()
        commits[commit] = parent | files
        branches[branch] = commit
        return commit


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers like the hub."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            self._file(body=True)
        else:
            name = re.sub(r"^/api/models/([^/]+/[^/?]+).*", r"\1", self.path)
            known = self.hub.refs.get(name)
            self._json({"id": name, "sha": known["main"]} if known else {}, 200 if known else 404)

    def do_PUT(self) -> None:
        content = self._body()
        oid = self.path.rpartition("/")[2]
        right = hashlib.sha256(content).hexdigest() == oid
        if right:
            self.hub.uploads[oid] = content
        self._json({}, 200 if right else 400)

    def do_POST(self) -> None:
        self.hub.asked.append(f"POST {self.path}")
        content = self._body()
        if self.path == "/api/validate-yaml":
            text = json.loads(content)["content"]
            return self._json({"errors": [] if text.startswith("---\n") else [{"message": "x"}]})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid username or password."}, 401)
        for pattern, answer in (
            (r"/api/repos/create", self._create),
            (r"/api/models/(.+?)/preupload/(.+)", self._preupload),
            (r"/(.+?)\.git/info/lfs/objects/batch", self._batch),
            (r"/api/models/(.+?)/commit/(.+)", self._commit),
        ):
            found = re.fullmatch(pattern, self.path.partition("?")[0])
            if found:
                return answer(content, *found.groups())
        return self._json({"error": f"no {self.path}"}, 404)

    def _create(self, content: bytes) -> None:
        wanted = json.loads(content)
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.locked:
            return self._json({"error": "You don't have the rights"}, 403)
        exists = name in self.hub.made
        self.hub.made.setdefault(name, wanted)
        return self._json({"url": f"{self.hub.url}/{name}"}, 409 if exists else 200)

    def _preupload(self, content: bytes, _name: str, _revision: str) -> None:
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(content)["files"]
        ]
        self._json({"files": modes})

    def _batch(self, content: bytes, _name: str) -> None:
        objects = [
            {
                "oid": wanted["oid"],
                "size": wanted["size"],
                "actions": {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}},
            }
            for wanted in json.loads(content)["objects"]
        ]
        self._json({"objects": objects, "transfer": "basic"})

    def _commit(self, content: bytes, name: str, branch: str) -> None:
        files: dict[str, bytes] = {}
        for line in content.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "header":
                self.hub.messages.append(value["summary"])
            elif row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        commit = self.hub.put(name, files, branch)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def _file(self, body: bool) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path.partition("?")[0])
        assert found
        name, revision, file = found.groups()
        commits = self.hub.repositories.get(name)
        hidden = name in self.hub.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        if commits is None or hidden:
            return self._missing("RepoNotFound", 401)
        commit = self.hub.refs[name].get(revision, revision)
        if commit not in commits:
            return self._missing("RevisionNotFound", 404)
        if file not in commits[commit]:
            return self._missing("EntryNotFound", 404, commit)
        content = commits[commit][file]
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body and name in self.hub.cut and file.endswith(".safetensors"):
            self.wfile.write(content[:1000])
            self.close_connection = True
        elif body:
            self.wfile.write(content)
        return None

    def _missing(self, what: str, code: int, commit: str = "") -> None:
        self.send_response(code)
        self.send_header("X-Error-Code", what)
        self.send_header("X-Error-Message", what)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, value: Any, code: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty hub."""
    hub = Hub()
    handler = type("Bound", (Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that give up
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def release(folder: Path, **more) -> Path:
    network = hrseg.create_model("hrnet_w18_small_v1", num_classes=2)
    labels = {"name": "mine", "labels": [[0, 0, "road", 1, 2, 3], [1, 1, "a|b", 4, 5, 6]]}
    card = {"network": network.spec, "labels": labels, "mean": [0, 0, 0], "std": [1, 1, 1], **more}
    write_release(folder / "mine.safetensors", network.state_dict(), card)
    return folder / "mine.safetensors"
