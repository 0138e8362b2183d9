"""A small hub: repositories in memory, behind the part of the Hugging Face hub's protocol that an upload takes."""

import base64
import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback_server import LoopbackServer

TOKEN = "hf_write"


class Hub(LoopbackServer):
    """Repositories by name; `files` by their path.

    An upload takes seconds, `takes`, and then ends when `goes_on` is set: one of many gigabytes would take minutes.
    `refuses` is the status that uploads are refused with.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.uploading = threading.Semaphore(0)  # one more for each upload that began
        self.takes = 0.0
        self.refuses = 0
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.commits: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/models/").partition("?")[0]
        if name in self.server.private:
            self._answer({"id": name, "private": self.server.private[name], "siblings": []})
        else:
            self._answer({"error": "Repository not found"}, 404)

    def do_PUT(self) -> None:
        oid, body = self.path.rpartition("/")[2], self._body()
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.uploading.release()
        time.sleep(self.server.takes)
        self.server.goes_on.wait(200)  # seconds
        if self.server.refuses:
            self._answer({"error": "no room"}, self.server.refuses)
            return
        self.server.blobs[oid] = body
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "who are you?"}, 401)
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif "/preupload/" in self.path:
            files = [
                {"path": one["path"], "uploadMode": "lfs" if one["size"] > 200 else "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        else:
            self._commit([json.loads(line) for line in body.splitlines()])

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] == "theirs":
            self._answer({"error": "forbidden"}, 403)
            return
        there = name in self.server.private
        if not there:
            self.server.private[name] = asked["visibility"] == "private"
        self._answer({"url": f"{self.server.url}/{name}"}, 409 if there else 200)

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/upload/{one['oid']}", "header": {}}}}
            for one in asked["objects"]
        ]
        self._answer({"transfer": "basic", "objects": objects})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        match = re.fullmatch(r"/api/models/(.+)/commit/main", self.path.partition("?")[0])
        assert match, self.path
        files = self.server.files.setdefault(match[1], {})
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.commits.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
        address = f"{self.server.url}/{match[1]}/commit/{'0' * 40}"
        self._answer({"commitUrl": address, "commitOid": "0" * 40, "success": True})
