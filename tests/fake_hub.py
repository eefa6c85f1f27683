"""A local server with the part of the hub's HTTP interface that ``huggingface_hub`` uses for small repositories.

Repositories are kept in memory as commits of whole trees. Files are committed inline (upload mode ``regular``), so
that neither LFS nor Xet is needed. :func:`fake_hub` directs ``huggingface_hub`` to the server and to an empty cache.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants, file_download

__all__ = ["TOKEN", "FakeHub", "fake_hub"]

TOKEN = "hf_of_the_tests"  # the one token that may write
Tree = dict[str, bytes]


@dataclass
class FakeHub:
    """Repositories of the server.

    Attributes:
        branches: commit of each branch, by repository.
        commits: files of each commit.
        requests: method and path of every request, in order.
    """

    url: str = ""
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    commits: dict[str, Tree] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def commit(self, repository: str, files: Tree, branch: str = "main") -> str:
        """Set the tree of a branch; returns the commit."""
        digest = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[digest] = files
        self.branches.setdefault(repository, {})[branch] = digest
        return digest

    def files(self, repository: str, branch: str = "main") -> Tree:
        return self.commits[self.branches[repository][branch]]

    def find(self, repository: str, revision: str) -> str | None:
        """The commit of a branch or commit name."""
        found = self.branches.get(repository, {}).get(revision, revision)
        return found if found in self.commits and repository in self.branches else None


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, values: object, status: int = 200) -> None:
        self._send(status, json.dumps(values).encode(), Content_Type="application/json")

    def _missing(self, code: str) -> None:
        self._send(404, b"{}", X_Error_Code=code, X_Error_Message=code)

    def do_HEAD(self) -> None:
        self._get()

    def do_GET(self) -> None:
        self._get()

    def do_POST(self) -> None:
        path, body = self._path(), self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "Invalid credentials in Authorization header"}, 401)
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(branch|preupload|commit)/(.+)", path):
            repository, action, revision = found.groups()
            getattr(self, f"_{action}")(repository, revision, body)
        else:
            self._json({}, 200)  # /api/validate-yaml

    def _path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        return path

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _get(self) -> None:
        path = self._path()
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
            repository, action, revision = found.groups()
            commit = self.hub.find(repository, revision)
            if commit is None:
                known = repository in self.hub.branches
                self._missing("RevisionNotFound" if known else "RepoNotFound")
            elif action == "tree":
                entries = sorted(self.hub.commits[commit].items())
                self._json(
                    [
                        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                        for name, content in entries
                    ]
                )
            else:
                files = [{"rfilename": name} for name in sorted(self.hub.commits[commit])]
                self._json({"id": repository, "modelId": repository, "sha": commit, "siblings": files, "tags": []})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            repository, revision, name = found.groups()
            commit = self.hub.find(repository, revision)
            content = self.hub.commits[commit].get(name) if commit else None
            if content is None:
                self._missing("EntryNotFound")
            else:
                etag = hashlib.sha1(content).hexdigest()
                self._send(200, content, ETag=f'"{etag}"', X_Repo_Commit=str(commit))
        else:
            self._missing("RepoNotFound")

    def _create(self, wanted: dict[str, Any]) -> None:
        repository = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
        exists = repository in self.hub.branches
        if not exists:
            self.hub.commit(repository, {".gitattributes": b""})
        url = f"{self.hub.url}/{repository}"
        self._json({"url": url, "name": repository, "id": "0"}, 409 if exists else 200)

    def _branch(self, repository: str, branch: str, body: bytes) -> None:
        branches = self.hub.branches[repository]
        known = branch in branches
        branches.setdefault(branch, branches["main"])
        self._json({}, 409 if known else 200)

    def _preupload(self, repository: str, revision: str, body: bytes) -> None:
        names = [file["path"] for file in json.loads(body)["files"]]
        self._json(
            {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for n in names]}
        )

    def _commit(self, repository: str, revision: str, body: bytes) -> None:
        tree = dict(self.hub.files(repository, revision))
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "deletedFile":
                del tree[value["path"]]
            elif line["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
        commit = self.hub.commit(repository, tree, revision)
        url = f"{self.hub.url}/{repository}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})


@contextlib.contextmanager
def fake_hub(cache: Path) -> Iterator[FakeHub]:
    """Run the server; ``huggingface_hub`` uses it, and ``cache``, until the end of the context."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        patch.setattr(constants, "ENDPOINT", hub.url)
        for module in (constants, file_download):  # early versions of huggingface_hub copy it
            template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
            patch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
        patch.delenv("HF_TOKEN", raising=False)
        try:
            yield hub
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
