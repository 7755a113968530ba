"""A Hugging Face hub on this machine: serves folders as model repositories, with faults on demand."""

# ruff: noqa: RET503

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

#: What the hub says of each refusal: status, X-Error-Code, X-Error-Message.
REFUSALS: dict[str, tuple[int, str | None, str]] = {
    "not found": (404, "RepoNotFound", "Repository not found"),
    "gated": (403, "GatedRepo", "Access to this model is restricted"),
    "no revision": (404, "RevisionNotFound", "Invalid rev id"),
    "bad token": (401, None, "Invalid credentials in Authorization header"),
    "busy": (429, None, "Too many requests"),
    "broken": (500, None, "Internal error"),
}


class Fault:
    """Something that goes wrong with the requests ("METHOD path") that ``where`` picks, so many ``times`` or always.

    :param kind: a key of ``REFUSALS``; ``cut``: the connection ends in the middle of the body, be it the
        answer's or what is uploaded; ``silent``: no answer; ``page``: a web page, as a captive portal's.
    """

    def __init__(self, kind: str, where: Callable[[str], bool] = lambda _: True, times: int | None = None) -> None:
        self.kind, self.where, self.left = kind, where, times

    def strikes(self, request: str) -> bool:
        if self.left == 0 or not self.where(request):
            return False
        if self.left is not None:
            self.left -= 1
        return True


def weights_body(request: str) -> bool:
    """Pick the download of weights (a fault's ``where``)."""
    return request.startswith("GET ") and request.endswith(".safetensors")


class FakeHub:
    """Serve folders as repositories; use it in a ``with`` statement.

    :ivar requests: all requests for models so far, as "METHOD path" and, of a resumed download, " Range".
    :ivar sent: the bytes of files that were sent.
    :ivar moved: the former name of a repository -> its name.
    :ivar tokens: the access tokens that came with them.
    :ivar repos: repository -> revision -> its folder and its commit.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.sent = 0
        self.moved: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.tokens: set[str] = set()
        self.closing = threading.Event()
        self.repos: dict[str, dict[str, tuple[Path, str]]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo: str, folder: Path, *revisions: str) -> str:
        """Serve ``folder`` as ``repo`` (or ``datasets/...``) at these revisions (default: main); return its commit."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name in _names(folder):
            digest.update(name.encode() + (folder / name).read_bytes())
        commit = digest.hexdigest()
        for revision in [*(revisions or ["main"]), commit]:
            self.repos.setdefault(repo, {})[revision] = (folder, commit)
        return commit

    def fault(self, request: str, resumed: bool) -> str | None:
        with self._lock:
            self.requests.append(request + (" Range" if resumed else ""))
            return next((fault.kind for fault in self.faults if fault.strikes(request)), None)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        asks = path.startswith(("/api/models/", "/api/datasets/"))
        if not asks and "/resolve/" not in path:
            return self._send(404, b"", {})  # newer clients ask for things besides, which is not what is tested
        for old, new in self.fake.moved.items():
            if f"/{old}/" in f"{path}/":
                return self._send(307, b"", {"Location": self.path.replace(old, new)})
        self.fake.tokens.add(self.headers.get("Authorization", "").removeprefix("Bearer "))
        fault = self.fake.fault(request, "Range" in self.headers)
        if fault == "silent":
            self.fake.closing.wait()
            self.close_connection = True
        elif fault == "page":
            self._send(200, b"<html>Please log in to the Wi-Fi</html>", {"Content-Type": "text/html"})
        elif fault in REFUSALS:
            self._refuse(fault)
        elif asks:
            # A data set is a repository named "datasets/owner/name", as in its files' addresses.
            self._api(path.removeprefix("/api/").removeprefix("models/"))
        else:
            repo, _, rest = path.removeprefix("/").partition("/resolve/")
            self._file(repo, *_revision_of(rest), cut=fault == "cut")

    do_HEAD = do_GET = _answer

    def _refuse(self, kind: str) -> None:
        status, code, message = REFUSALS[kind]
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        # A careless server repeats the token, and clients put this line into their errors.
        self._send(status, b"", headers, reason=f"{message} ({self.headers.get('Authorization', 'no token')})")

    def _api(self, path: str) -> None:
        call = "tree" if "/tree/" in path else "revision"
        repo, _, rest = path.partition(f"/{call}/")
        revision, inside = _revision_of(rest)
        revisions = self.fake.repos.get(repo, {})
        if (revision or "main") not in revisions:
            return self._refuse("no revision" if revisions else "not found")
        folder, commit = revisions[revision or "main"]
        names = _names(folder)
        if call == "revision":
            siblings = [{"rfilename": name} for name in names]
            return self._json({"id": repo, "modelId": repo, "sha": commit, "private": False, "siblings": siblings})
        inside = f"{inside}/" if inside else ""
        names, deep = [name for name in names if name.startswith(inside)], "recursive=true" in self.path.lower()
        if not deep:
            names = sorted({inside + name.removeprefix(inside).split("/")[0] for name in names})
        self._json([_listed(folder, name) for name in names])

    def _file(self, repo: str, revision: str, name: str, cut: bool) -> None:
        folder, commit = self.fake.repos.get(repo, {}).get(revision, (Path("none"), ""))
        if not (folder / name).is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        body = (folder / name).read_bytes()
        headers = {"ETag": f'"{_etag(folder / name)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        status, start, stop = 200, 0, len(body)
        if "Range" in self.headers:
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1, len(body)) if last else len(body)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            status = 206
        self.fake.sent += stop - start if self.command == "GET" else 0
        # Of a whole file always at the same byte: the next attempt comes no further.
        end = max(start, len(body) // 2) if stop == len(body) else (start + stop) // 2
        self._send(status, body[start:stop], headers, end - start if cut else None)

    def _json(self, data: Any) -> None:
        self._send(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], end: int | None = None, reason: str | None = None
    ) -> None:
        self.close_connection = self.close_connection or end is not None
        self.send_response(status, reason)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:end])


def _revision_of(rest: str) -> tuple[str, str]:
    """Split a revision, such as main or refs/convert/parquet, from the path behind it."""
    parts = rest.split("/")
    start = 3 if parts[0] == "refs" else 1
    return "/".join(parts[:start]), "/".join(parts[start:])


def _listed(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if path.is_file():
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": _etag(path)}
    return {"type": "directory", "path": name, "oid": "0"}


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


def _names(folder: Path) -> list[str]:
    """Return the files' paths inside the folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, home: Path) -> None:
    """Have the hub's client ask the hub at ``url``, keep its cache in ``home`` and not wait before it asks again."""
    here = {"HF_HUB_CACHE": str(home / "hub"), "HF_TOKEN_PATH": str(home / "token"), "HF_HUB_OFFLINE": False}
    there = {"ENDPOINT": url, "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}"}
    transfer = {"HF_HUB_DISABLE_XET": True, "DOWNLOAD_CHUNK_SIZE": 1 << 16}
    for name, value in (here | there | transfer).items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
