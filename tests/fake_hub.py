"""A Hugging Face hub on this machine: serves folders as model repositories, with faults on demand.

It speaks what ``snapshot_download`` needs: a model's information, its tree, and HEAD and GET of its files.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

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
    """Something that goes wrong with the requests that ``where`` picks.

    :param kind: a key of ``REFUSALS``; ``cut``: the connection ends in the middle of the body;
        ``silent``: no answer; ``page``: a web page, as a captive portal's.
    :param where: told "METHOD path", says whether this fault is for it.
    :param times: how often it happens; None: always.
    """

    def __init__(self, kind: str, where: Callable[[str], bool] = lambda _: True, times: int | None = None) -> None:
        self.kind = kind
        self.where = where
        self.left = times

    def strikes(self, request: str) -> bool:
        """Whether it happens to this request; one that is limited in times is then used up by one."""
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
    :ivar tokens: the access tokens that came with them.
    :ivar faults: what goes wrong; may be changed while it runs.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.tokens: set[str] = set()
        self.faults: list[Fault] = []
        self._repos: dict[str, dict[str, tuple[Path, str]]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        hub = self

        class Handler(_Handler):
            fake = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo: str, folder: Path, *revisions: str) -> str:
        """Serve ``folder`` as ``repo`` at these revisions (default: main) and return its commit."""
        digest = hashlib.sha1(usedforsecurity=False)
        for path in sorted(folder.iterdir()):
            digest.update(path.name.encode() + path.read_bytes())
        commit = digest.hexdigest()
        for revision in [*(revisions or ["main"]), commit]:
            self._repos.setdefault(repo, {})[revision] = (folder, commit)
        return commit

    def at(self, repo: str, revision: str) -> tuple[Path, str] | None:
        """Return the folder and the commit of a repository at a revision, if there is such."""
        return self._repos.get(repo, {}).get(revision)

    def knows(self, repo: str) -> bool:
        """Whether there is such a repository."""
        return repo in self._repos

    def fault(self, request: str, resumed: bool) -> str | None:
        """Note a request and return the kind of fault that strikes it, if any."""
        with self._lock:
            self.requests.append(request + (" Range" if resumed else ""))
            return next((fault.kind for fault in self.faults if fault.strikes(request)), None)

    def wait_for_end(self) -> None:
        """Return when the hub closes."""
        self._closing.wait()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if not path.startswith("/api/models/") and "/resolve/" not in path:
            self._send(404, b"", {})  # newer clients ask for things besides, which is not what is tested
            return
        self.fake.tokens.add(self.headers.get("Authorization", "").removeprefix("Bearer "))
        fault = self.fake.fault(f"{self.command} {path}", "Range" in self.headers)
        if fault == "silent":
            self.fake.wait_for_end()
            self.close_connection = True
        elif fault == "page":
            self._send(200, b"<html>Please log in to the Wi-Fi</html>", {"Content-Type": "text/html"})
        elif fault in REFUSALS:
            self._refuse(fault)
        elif path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"))
        else:
            repo, _, rest = path.removeprefix("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            self._file(repo, revision, name, cut=fault == "cut")

    def _refuse(self, kind: str) -> None:
        status, code, message = REFUSALS[kind]
        headers = {"X-Error-Message": message}
        if code:
            headers["X-Error-Code"] = code
        # A careless server repeats the token, and clients put this line into their errors.
        self._send(status, b"", headers, reason=f"{message} ({self.headers.get('Authorization', 'no token')})")

    def _api(self, path: str) -> None:
        for call in ("revision", "tree"):
            repo, found, revision = path.partition(f"/{call}/")
            if found:
                break
        else:
            call, repo, revision = "revision", path, "main"
        found_at = self.fake.at(repo, revision)
        if found_at is None:
            self._refuse("no revision" if self.fake.knows(repo) else "not found")
            return
        folder, commit = found_at
        files = sorted(path for path in folder.iterdir() if path.is_file())
        if call == "revision":
            siblings = [{"rfilename": path.name} for path in files]
            data: Any = {"id": repo, "modelId": repo, "sha": commit, "private": False, "siblings": siblings}
        else:
            data = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _etag(path)} for path in files
            ]
        self._send(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _file(self, repo: str, revision: str, name: str, cut: bool) -> None:
        found_at = self.fake.at(repo, revision)
        if found_at is None or not (found_at[0] / name).is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        folder, commit = found_at
        body = (folder / name).read_bytes()
        headers = {"ETag": f'"{_etag(folder / name)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        status, start = 200, 0
        if "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status = 206
        # Always at the same byte: the next attempt comes no further.
        end = max(start, len(body) // 2) if cut else None
        self._send(status, body[start:], headers, None if end is None else end - start)

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str],
        cut_after: int | None = None,
        reason: str | None = None,
    ) -> None:
        self.send_response(status, reason)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut_after is not None:
            body = body[:cut_after]
            self.close_connection = True
        self.wfile.write(body)


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
