"""A hub to download from: as much of the Hugging Face hub's protocol as its client and `datasets` speak."""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """Serves <root>/models/owner/name/* and <root>/datasets/owner/name/*, each with a main branch at COMMIT.

    What it is asked, and by what client, it writes to <root>/asked.
    """

    protocol_version = "HTTP/1.1"
    root: Path

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        with (self.root / "asked").open("a") as asked:
            asked.write(f"{self.command} {path} {self.headers['User-Agent']}\n")
        if info := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(/.*)?)?", path):
            kind, repo, verb, revision, _ = info.groups()
            self._describe(self.root / kind / repo, repo, verb, revision)
        elif file := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            kind, repo, name = file.groups()
            self._send_file(self.root / (kind or "models") / repo / name)
        else:
            self._answer(404)

    do_HEAD = do_GET  # noqa: N815

    def _describe(self, repo: Path, name: str, verb: str | None, revision: str | None) -> None:
        if "gated" in name:
            self._answer(403, b"{}", X_Error_Code="GatedRepo")
        elif "busy" in name:
            self._answer(503)
        elif not repo.is_dir():
            self._answer(404, b"{}", X_Error_Code="RepoNotFound")
        elif revision not in (None, "main", COMMIT):
            self._answer(404, b"{}", X_Error_Code="RevisionNotFound")
        else:
            files = [path for path in repo.iterdir() if path.is_file()]
            tree = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _digest(f)} for f in files]
            about = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": f.name} for f in files], "tags": []}
            self._answer(200, json.dumps(tree if verb == "tree" else about).encode(), Content_Type="application/json")

    def _send_file(self, path: Path) -> None:
        if path.is_file():
            self._answer(200, path.read_bytes(), X_Repo_Commit=COMMIT, ETag=f'"{_digest(path)}"')
        else:
            self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
