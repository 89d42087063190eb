"""The Hub, faked at its HTTP edge: a local server answers what the client asks."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.hub import is_hub_id

pytest.importorskip("huggingface_hub")
COMMIT = "c0ffee" + "0" * 34


class Hub(BaseHTTPRequestHandler):
    files: dict[str, bytes]
    requests: list[tuple[str, str]]

    def log_message(self, *_):
        pass

    def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.requests.append((self.command, self.path))
        path = self.path.split("?")[0]
        if path.startswith("/api/models/acme/absent"):
            return self.answer(b'{"error": "Repository not found"}', 404, X_Error_Code="RepoNotFound")
        if path.startswith("/api/models/acme/toy"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.files.items()]
            tree = [{"type": "file", "path": n, "size": len(d), "oid": "0" * 40} for n, d in self.files.items()]
            info = {"id": "acme/toy", "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
            return self.answer(json.dumps(tree if "/tree/" in path else info).encode(), Content_Type="application/json")
        name = path.rsplit("/", 1)[-1]
        if name not in self.files:  # the client also asks what kind of program it runs in
            return self.answer(b"{}", 404)
        data = self.files[name]
        etag = f'"{hashlib.sha1(data).hexdigest()}"'
        return self.answer(data, ETag=etag, X_Repo_Commit=COMMIT)

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.requests.append((self.command, self.path))
        if self.path.endswith("/repos/create"):
            return self.answer(
                json.dumps({"url": f"http://{self.headers['Host']}/acme/toy"}).encode(), Content_Type="application/json"
            )
        if "/preupload/" in self.path:
            names = [f["path"] for f in json.loads(body)["files"]]
            reply = {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]}
            return self.answer(json.dumps(reply).encode(), Content_Type="application/json")
        if "/commit/" in self.path:
            import base64

            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            reply = {
                "commitUrl": f"http://{self.headers['Host']}/acme/toy/commit/{COMMIT}",
                "commitOid": COMMIT,
                "success": True,
            }
            return self.answer(json.dumps(reply).encode(), Content_Type="application/json")
        return self.answer(b"{}", Content_Type="application/json")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    handler = type("Handler", (Hub,), {"files": {}, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield handler
    server.shutdown()
    server.server_close()


def test_a_pushed_model_comes_back_from_the_hub(model, toy, hub):
    model.push_to_hub("acme/toy", token="secret")
    assert set(hub.files) >= {"config.json", "model.safetensors", "worldflux_meta.json"}
    again = toy["model"].from_pretrained("acme/toy")
    assert torch.equal(again.dynamics_model.linear.weight, model.dynamics_model.linear.weight)


def test_a_repository_that_is_not_there_is_named(registry, toy, hub):
    with pytest.raises(CheckpointError, match="no folder 'acme/absent'"):
        toy["model"].from_pretrained("acme/absent")


def test_a_push_needs_owner_and_name(model):
    with pytest.raises(ConfigurationError, match="owner/name"):
        model.push_to_hub("toy")


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a/b", True),
        ("a/b@v1", True),
        ("./a", False),
        ("a", False),
        ("/a/b", False),
        ("a/b/c", False),
        ("dreamer:ci", False),
    ],
)
def test_a_hub_id_has_one_slash(name, good):
    assert is_hub_id(name) is good
