"""A stand-in for W&B's server that takes all that `wandb sync` sends, and remembers it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Server(ThreadingHTTPServer):
    """What was sent: queries with their variables, and files with their bytes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.queries: list[tuple[str, dict[str, Any]]] = []
        self.files: dict[str, bytes] = {}
        self.lines: dict[str, int] = {}

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""

    def do_PUT(self) -> None:
        self.server.files[self.path] = self._body()
        self._reply({})

    def do_POST(self) -> None:
        sent = json.loads(self._body())
        if self.path.endswith("file_stream"):
            for name, part in sent.get("files", {}).items():
                self.server.lines[name] = self.server.lines.get(name, 0) + len(part["content"])
            return self._reply({})
        name, given = sent["operationName"], sent.get("variables") or {}
        self.server.queries.append((name, given.get("input", given)))
        return self._reply({"data": _answer(name, given, self.server.url)})

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] == "chunked":
            body = b"".join(self._chunks())
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        return gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _reply(self, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _answer(name: str, given: dict[str, Any], url: str) -> dict[str, Any]:
    """What the client must hear to go on; of an artifact the id is its name."""
    project = {"id": "P", "name": "glassrec", "entity": {"id": "E", "name": "ada"}}
    upload = {"uploadUrl": f"{url}/manifest", "uploadHeaders": []}
    if name == "UpsertBucket":
        bucket = {"id": "R", "name": given["name"], "displayName": "run", "project": project}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}
    if name == "CreateRunFiles":
        files = [{"name": file, "uploadUrl": f"{url}/run/{file}"} for file in given["files"]]
        return {"createRunFiles": {"runID": "R", "uploadHeaders": [], "files": files}}
    if name == "CreateArtifact":
        artifact = {"id": given["input"]["artifactCollectionName"], "state": "PENDING"}
        sequence = {"id": "S", "latestArtifact": None}
        return {"createArtifact": {"artifact": artifact | {"artifactSequence": sequence}}}
    if name in ("CreateArtifactManifest", "UpdateArtifactManifest"):
        manifest = {"id": "M", "file": {"id": "F", "name": "m", "displayName": "m"} | upload}
        return {f"{name[0].lower()}{name[1:]}": {"artifactManifest": manifest}}
    if name == "CreateArtifactFiles":
        return {"createArtifactFiles": {"files": {"edges": [
            {"node": {
                "id": "F", "name": file["name"], "displayName": file["name"], "storagePath": "x",
                "uploadUrl": f"{url}/{file['artifactID']}/{file['name']}", "uploadHeaders": [],
                "artifact": {"id": file["artifactID"]},
            }}
            for file in given["input"]["artifactFiles"]
        ]}}}  # fmt: skip
    if name == "CommitArtifact":
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "x"}}}
    if name == "UseArtifact":
        return {"useArtifact": {"artifact": {"id": given["input"]["artifactID"]}}}
    return {"model": project | {"bucket": None}} if name == "RunResumeStatus" else {}
