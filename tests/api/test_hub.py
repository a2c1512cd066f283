"""Model folders go to a hub and come back, against a server in this process."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import seqmel
from seqmel.core.errors import ConfigError, InputError, ModelError, OutputError
from seqmel.model import load_model, read_description

hub = pytest.importorskip("huggingface_hub")
TOKEN = "hf_verysecret"


class Handler(BaseHTTPRequestHandler):
    """The part of the Hub's interface that uploads and downloads need."""

    files: dict[str, bytes] = {}
    visibility: dict[str, Any] = {}
    tokens: set[str | None] = set()
    refused = 0

    @property
    def sha(self) -> str:
        """The commit: another one for other files."""
        return hashlib.sha1(repr(self.files).encode(), usedforsecurity=False).hexdigest()

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        type(self).tokens.add(self.headers.get("Authorization"))
        if self.refused:
            self._answer(self.refused)
        elif self.path.endswith("/repos/create"):
            type(self).visibility = json.loads(body)
            self._json({"url": "https://huggingface.co/bank/cards", "id": "bank/cards"})
        elif self.path.endswith("/validate-yaml"):  # of the model card
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            regular = {"uploadMode": "regular", "shouldIgnore": False}
            self._json({"files": [{"path": path, **regular} for path in paths]})
        else:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    type(self).files[entry["value"]["path"]] = content
            url = "https://huggingface.co/bank/cards/commit/x"
            self._json({"commitUrl": url, "commitOid": self.sha, "success": True})

    def do_GET(self) -> None:
        type(self).tokens.add(self.headers.get("Authorization"))
        path = self.path.split("?")[0]
        name = path.rsplit("/", 1)[1]
        if self.refused:
            self._answer(self.refused)
        elif "/resolve/" in path and name in self.files:
            content = self.files[name]
            etag = f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"'
            self._answer(200, content, ETag=etag, X_Repo_Commit=self.sha)
        elif "/tree/" in path:
            sizes = {name: len(content) for name, content in self.files.items()}
            self._json(
                [{"type": "file", "oid": self.sha, "size": n, "path": p} for p, n in sizes.items()]
            )
        elif path.startswith("/api/models/bank/cards"):
            siblings = [{"rfilename": name} for name in self.files]
            self._json({"id": "bank/cards", "sha": self.sha, "siblings": siblings, "private": True})
        else:
            self._answer(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Handler]]:
    class Own(Handler):
        files: dict[str, bytes] = {}
        tokens: set[str | None] = set()

    running = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{running.server_port}"
    for name in ("huggingface_hub.constants.ENDPOINT", "huggingface_hub.hf_api.constants.ENDPOINT"):
        monkeypatch.setattr(name, address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield Own
    running.shutdown()
    thread.join()
    running.server_close()


def test_a_model_comes_back_as_it_was(
    server: type[Handler], model_folder: Path, tmp_path: Path
) -> None:
    seqmel.push_to_hub(model_folder, "bank/cards")
    assert server.visibility["visibility"] == "private"
    assert set(server.files) == {path.name for path in model_folder.iterdir()}
    pulled = seqmel.pull_from_hub("bank/cards", tmp_path / "model")
    assert pulled.fingerprint() == load_model(model_folder).fingerprint()
    assert {path.name for path in (tmp_path / "model").iterdir()} == set(server.files)
    assert read_description(tmp_path / "model") == read_description(model_folder)
    assert server.tokens - {None} == {f"Bearer {TOKEN}"}


def test_a_model_is_loaded_by_its_name_and_kept_in_the_cache(
    server: type[Handler], model_folder: Path, tmp_path: Path
) -> None:
    seqmel.push_to_hub(model_folder, "bank/cards")
    found = seqmel.from_pretrained("bank/cards")
    assert found.fingerprint() == load_model(model_folder).fingerprint()
    assert found.folder is None
    assert list((tmp_path / "cache").rglob("model.safetensors"))
    server.files.clear()
    server.files["README.md"] = b"no model"
    with pytest.raises(InputError, match="bank/cards is not a model of seqmel"):
        seqmel.from_pretrained("bank/cards")


def test_only_files_of_the_model_are_uploaded(
    server: type[Handler], model_folder: Path, tmp_path: Path
) -> None:
    saved = seqmel.load(model_folder).save(tmp_path / "own")
    (tmp_path / "own" / "clients.csv").write_text("client_id\n1\n")
    seqmel.push_to_hub(saved, "bank/cards", private=False)
    assert "clients.csv" not in server.files
    assert server.visibility["visibility"] == "public"


def test_a_damaged_model_is_refused_and_nothing_is_written(
    server: type[Handler], model_folder: Path, tmp_path: Path
) -> None:
    seqmel.push_to_hub(model_folder, "bank/cards")
    server.files["vocabulary.json"] += b" "
    with pytest.raises(ModelError, match="vocabulary"):
        seqmel.pull_from_hub("bank/cards", tmp_path / "model")
    server.files.clear()
    server.files["README.md"] = b"no model"
    with pytest.raises(InputError, match="bank/cards is not a model of seqmel"):
        seqmel.pull_from_hub("bank/cards", tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "you are not logged in"), (403, "right to write"), (404, "not found")],
)
def test_a_refusal_is_one_line_without_the_token(
    status: int, words: str, server: type[Handler], model_folder: Path, tmp_path: Path
) -> None:
    server.refused = status
    for call in (
        lambda: seqmel.push_to_hub(model_folder, "bank/cards", token=TOKEN),
        lambda: seqmel.pull_from_hub("bank/cards", tmp_path / "model", token=TOKEN),
    ):
        with pytest.raises(InputError, match=words) as raised:
            call()
        assert TOKEN not in str(raised.value)
        assert "\n" not in str(raised.value)


def test_what_is_wrong_is_said_before_any_request(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Expected OWNER/NAME"):
        seqmel.push_to_hub(model_folder, "cards")
    with pytest.raises(ModelError):
        seqmel.push_to_hub(tmp_path, "bank/cards")
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match="--overwrite"):
        seqmel.pull_from_hub("bank/cards", tmp_path / "there")
