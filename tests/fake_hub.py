"""A Hugging Face hub on this machine: serves folders as model repositories, with faults on demand.

It speaks what ``snapshot_download`` needs: a model's information, its tree, and HEAD and GET of its
files; and what ``create_repo``, ``create_branch`` and ``create_commit`` need (large files by LFS).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from conftest import ROOT
from forked import run_python

#: What the hub says of each refusal: status, X-Error-Code, X-Error-Message.
REFUSALS: dict[str, tuple[int, str | None, str]] = {
    "not found": (404, "RepoNotFound", "Repository not found"),
    "gated": (403, "GatedRepo", "Access to this model is restricted"),
    "no revision": (404, "RevisionNotFound", "Invalid rev id"),
    "bad token": (401, None, "Invalid credentials in Authorization header"),
    "busy": (429, None, "Too many requests"),
    "broken": (500, None, "Internal error"),
    "no right": (403, None, "You don't have the rights to write to this namespace"),
    "no owner": (404, None, "Namespace not found"),
}
#: What is asked of it when something is written.
WRITES = {
    "create": re.compile("POST /api/repos/create"),
    "validate": re.compile("POST /api/validate-yaml"),
    "branch": re.compile("POST /api/models/([^/]+/[^/]+)/branch/(.+)"),
    "preupload": re.compile("POST /api/models/([^/]+/[^/]+)/preupload/(.+)"),
    "batch": re.compile("POST /([^/]+/[^/]+).git/info/lfs/objects/batch"),
    "store": re.compile("PUT /lfs/([0-9a-f]{64})"),
    "commit": re.compile("POST /api/models/([^/]+/[^/]+)/commit/(.+)"),
}


class Fault:
    """Something that goes wrong with the requests that ``where`` picks.

    :param kind: a key of ``REFUSALS``; ``cut``: the connection ends in the middle of the body, be it the
        answer's or what is uploaded; ``lost``: what is written is, but the connection ends before the
        answer; ``silent``: no answer; ``page``: a web page, as a captive portal's.
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


def weights_upload(request: str) -> bool:
    """Pick the upload of weights (a fault's ``where``)."""
    return request.startswith("PUT /lfs/")


@dataclass(frozen=True)
class Commit:
    """What somebody committed: the files by name, as they were sent."""

    repo: str
    revision: str
    oid: str
    message: str
    files: dict[str, bytes]


class FakeHub:
    """Serve folders as repositories; use it in a ``with`` statement.

    :ivar requests: all requests for models so far, as "METHOD path" and, of a resumed download, " Range".
    :ivar tokens: the access tokens that came with them.
    :ivar faults: what goes wrong; may be changed while it runs.
    :ivar writers: the tokens that may write, to the repositories of ``owners``.
    :ivar readers: the tokens that may only read.
    :ivar private: the repositories that only they may read.
    :ivar commits: what was committed, in order.
    :ivar card_errors: what is wrong with a README.md's header.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.tokens: set[str] = set()
        self.faults: list[Fault] = []
        self.writers: set[str] = set()
        self.readers: set[str] = set()
        self.owners = {"tiny"}
        self.private: set[str] = set()
        self.commits: list[Commit] = []
        self.card_errors: list[str] = []
        self.stored: dict[str, bytes] = {}  # the large files, by SHA-256
        self._folder = tempfile.TemporaryDirectory()  # what was committed, a folder for each commit
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
        self._folder.cleanup()

    def add(self, repo: str, folder: Path, *revisions: str) -> str:
        """Serve ``folder`` as ``repo`` (or ``datasets/...``) at these revisions (default: main); return its commit."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name in _names(folder):
            digest.update(name.encode() + (folder / name).read_bytes())
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

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """Return what a repository holds."""
        folder, _ = self._repos[repo][revision]
        return {name: (folder / name).read_bytes() for name in _names(folder)}

    def create(self, repo: str, private: bool = False) -> None:
        """Make a repository with what the hub puts into each."""
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
        self.add(repo, folder)
        if private:
            self.private.add(repo)

    def branch(self, repo: str, name: str) -> None:
        """Make a branch of a repository's main branch."""
        self._repos[repo][name] = self._repos[repo]["main"]

    def commit(self, repo: str, revision: str, message: str, files: dict[str, bytes]) -> str:
        """Add ``files`` to what a branch holds and return the commit."""
        before, parent = self._repos[repo][revision]
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        shutil.copytree(before, folder, dirs_exist_ok=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        oid = hashlib.sha1(f"{parent} {len(self.commits)}".encode(), usedforsecurity=False).hexdigest()
        for place in (revision, oid):
            self._repos[repo][place] = (folder, oid)
        self.commits.append(Commit(repo, revision, oid, message, files))
        return oid

    def may_read(self, repo: str, token: str) -> bool:
        """Whether the bearer of ``token`` may know of a repository."""
        return repo not in self.private or token in self.readers | self.writers

    def refusal(self, token: str, repo: str) -> str | None:
        """Return why the bearer of ``token`` may not write to a repository, as a key of ``REFUSALS``."""
        if token not in self.readers | self.writers:
            return "bad token"
        if repo.split("/")[0] not in self.owners:
            return "no owner"
        return None if token in self.writers else "no right"

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
    loses_answers = False

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        write = next(((call, found) for call, form in WRITES.items() if (found := form.fullmatch(request))), None)
        asks = path.startswith(("/api/models/", "/api/datasets/"))
        if write is None and not asks and "/resolve/" not in path:
            self._body()
            self._send(404, b"", {})  # newer clients ask for things besides, which is not what is tested
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.fake.tokens.add(token)
        fault = self.fake.fault(request, "Range" in self.headers)
        self.loses_answers = fault == "lost"
        body = self._body(cut=fault == "cut")
        if write is not None and fault == "cut":
            self.close_connection = True
        elif fault == "silent":
            self.fake.wait_for_end()
            self.close_connection = True
        elif fault == "page":
            self._send(200, b"<html>Please log in to the Wi-Fi</html>", {"Content-Type": "text/html"})
        elif fault in REFUSALS:
            self._refuse(fault)
        elif write is not None:
            call, found = write
            self._write(call, list(found.groups()), token, body)
        elif asks:
            # A data set is a repository named "datasets/owner/name", as in its files' addresses.
            self._api(path.removeprefix("/api/").removeprefix("models/"), token)
        else:
            repo, _, rest = path.removeprefix("/").partition("/resolve/")
            # refs/convert/parquet has slashes of its own, which the address holds escaped.
            start = 3 if rest.startswith("refs/") else 1
            revision, name = "/".join(rest.split("/")[:start]), "/".join(rest.split("/")[start:])
            self._file(repo, revision, name, token, cut=fault == "cut")

    def _body(self, cut: bool = False) -> bytes:
        """Read what was sent, or half of it."""
        length = int(self.headers.get("Content-Length", 0))
        return self.rfile.read(length // 2 if cut else length)

    def _refuse(self, kind: str) -> None:
        status, code, message = REFUSALS[kind]
        headers = {"X-Error-Message": message}
        if code:
            headers["X-Error-Code"] = code
        # A careless server repeats the token, and clients put this line into their errors.
        self._send(status, b"", headers, reason=f"{message} ({self.headers.get('Authorization', 'no token')})")

    def _write(self, call: str, where: list[str], token: str, body: bytes) -> None:
        if call == "store":  # its address is the key to it
            self.fake.stored[where[0]] = body
            self._send(200, b"", {})
            return
        if call == "validate":
            errors = [{"message": error} for error in self.fake.card_errors]
            self._json({"errors": errors, "warnings": []}, 400 if errors else 200)
            return
        data = json.loads(body) if call != "commit" else {}
        repo = f"{data['organization']}/{data['name']}" if call == "create" else where[0]
        refusal = self.fake.refusal(token, repo)
        if refusal is None and call != "create" and not self.fake.knows(repo):
            refusal = "not found"
        if refusal is None and call in ("preupload", "commit") and self.fake.at(repo, where[1]) is None:
            refusal = "no revision"
        if refusal is not None:
            self._refuse(refusal)
        elif call == "create":
            there = self.fake.knows(repo)
            if not there:
                self.fake.create(repo, private=data.get("visibility") == "private" or bool(data.get("private")))
            self._json({"url": f"{self.fake.url}/{repo}"}, 409 if there else 200)
        elif call == "branch":
            there = self.fake.at(repo, where[1]) is not None
            if not there:
                self.fake.branch(repo, where[1])
            self._json({}, 409 if there else 200)
        elif call == "preupload":
            held = self.fake.files(repo, where[1])
            self._json({"files": [_upload_mode(file["path"], held) for file in data["files"]]})
        elif call == "batch":
            self._json({"transfer": "basic", "objects": [self._lfs_action(wanted) for wanted in data["objects"]]})
        else:
            self._commit(repo, where[1], [json.loads(line) for line in body.splitlines()])

    def _lfs_action(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Return how to upload a large file: not at all, if it is there."""
        upload = {"href": f"{self.fake.url}/lfs/{wanted['oid']}?X-Signature=secret"}
        return wanted if wanted["oid"] in self.fake.stored else {**wanted, "actions": {"upload": upload}}

    def _commit(self, repo: str, revision: str, lines: list[dict[str, Any]]) -> None:
        files = {}
        for line in lines[1:]:
            value = line["value"]
            is_large = line["key"] == "lfsFile"
            files[value["path"]] = (
                self.fake.stored[value["oid"]] if is_large else base64.b64decode(value["content"], validate=True)
            )
        oid = self.fake.commit(repo, revision, lines[0]["value"]["summary"], files)
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.fake.url}/{repo}/commit/{oid}"})

    def _api(self, path: str, token: str) -> None:
        for call in ("revision", "tree"):
            repo, found, revision = path.partition(f"/{call}/")
            if found:
                break
        else:
            call, repo, revision = "revision", path, "main"
        found_at = self.fake.at(repo, revision)
        if found_at is None or not self.fake.may_read(repo, token):
            self._refuse("no revision" if self.fake.knows(repo) and self.fake.may_read(repo, token) else "not found")
            return
        folder, commit = found_at
        names = _names(folder)
        if call == "revision":
            siblings = [{"rfilename": name} for name in names]
            private = repo in self.fake.private
            data: Any = {"id": repo, "modelId": repo, "sha": commit, "private": private, "siblings": siblings}
        else:
            data = [
                {"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": _etag(folder / name)}
                for name in names
            ]
        self._json(data)

    def _file(self, repo: str, revision: str, name: str, token: str, cut: bool) -> None:
        found_at = self.fake.at(repo, revision)
        if found_at is None or not (found_at[0] / name).is_file() or not self.fake.may_read(repo, token):
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

    def _json(self, data: Any, status: int = 200) -> None:
        self._send(status, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str],
        cut_after: int | None = None,
        reason: str | None = None,
    ) -> None:
        if self.loses_answers:
            self.close_connection = True
            return
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


def _upload_mode(name: str, held: dict[str, bytes]) -> dict[str, Any]:
    """Return how a file is to be sent and, if there is one of this name, the hash of its content."""
    is_large = name.endswith(".safetensors")
    found: dict[str, Any] = {"path": name, "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
    if name in held:
        blob = b"blob %d\0" % len(held[name]) + held[name]
        found["oid"] = (
            hashlib.sha256(held[name]).hexdigest()
            if is_large
            else hashlib.sha1(blob, usedforsecurity=False).hexdigest()
        )
    return found


def _names(folder: Path) -> list[str]:
    """Return the files' paths inside the folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def run_as_user(
    endpoint: str, home: Path, command: list[str], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python as someone whose hub is at ``endpoint`` and whose cache is in ``home``."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
        "OMP_NUM_THREADS": "1",
        "no_proxy": "127.0.0.1",
    }
    return run_python(command, {**clean, **settings, **(environment or {})}, ROOT, timeout=120)
