"""Names on the Hugging Face hub: the real client against a server on this machine that speaks the hub's shape."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import GPT2, LLAMA, gpt2_tensors, llama_tensors, write_folder, write_safetensors

from nanollm import _core
from nanollm.convert import convert

pytest.importorskip("huggingface_hub", reason="the client of the hub (extra hub) is absent")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves folders as repositories: /api/models/ORG/NAME/..., /ORG/NAME/resolve/REVISION/FILE."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Path] = {}
        self.downloads: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"] and "/".join(parts[2:4]) in self.server.repositories:
            name = "/".join(parts[2:4])
            files = sorted(p for p in self.server.repositories[name].rglob("*") if p.is_file())
            paths = [str(p.relative_to(self.server.repositories[name])) for p in files]
            if parts[4:5] == ["tree"]:
                listing = [
                    {"type": "file", "path": path, "size": p.stat().st_size, "oid": etag(p)}
                    for path, p in zip(paths, files, strict=True)
                ]
                return self.send(200, json.dumps(listing).encode())
            siblings = [{"rfilename": path} for path in paths]
            content = {"id": name, "modelId": name, "sha": COMMIT, "private": False, "siblings": siblings, "tags": []}
            return self.send(200, json.dumps(content).encode())
        if len(parts) > 4 and parts[2] == "resolve" and "/".join(parts[:2]) in self.server.repositories:
            path = self.server.repositories["/".join(parts[:2])] / "/".join(parts[4:])
            if path.is_file():
                if self.command == "GET":
                    self.server.downloads.append("/".join(parts[4:]))
                return self.send(200, path.read_bytes(), {"ETag": f'"{etag(path)}"', "X-Repo-Commit": COMMIT})
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        return self.send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header(
            "Content-Type", "application/json" if self.path.startswith("/api") else "application/octet-stream"
        )
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(tmp_path: Path, hub: Hub, *args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`nanollm convert` in a folder of its own, with a cache of its own."""
    (tmp_path / "work").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-P", "-m", "nanollm", "convert", *map(str, args)],
        cwd=tmp_path / "work",
        env=os.environ
        | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*"}
        | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def model(tmp_path: Path, hub: Hub) -> Path:
    """A Llama in two shards, with what repositories hold beside them."""
    tensors = llama_tensors(LLAMA, np.random.default_rng(1))
    folder = write_folder(tmp_path / "repository", LLAMA, tensors)
    names = list(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, part in parts.items():
        write_safetensors(folder / file, {n: tensors[n] for n in part})
    index = {"weight_map": {n: file for file, part in parts.items() for n in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    hub.repositories["org/my-model"] = folder
    return folder


def test_a_sharded_model_is_fetched_and_converted(tmp_path: Path, hub: Hub, model: Path) -> None:
    needed = {p.name for p in model.iterdir()}
    for name in ("pytorch_model.bin", "consolidated.safetensors", "tf_model.h5", "flax_model.msgpack", "x.py"):
        (model / name).write_bytes(b"x" * 1000)
    (model / "onnx").mkdir()
    (model / "onnx" / "config.json").write_text("{}")
    done = run(tmp_path, hub, "org/my-model", "-o", "x.gguf")
    assert done.returncode == 0, done.stderr
    assert set(hub.downloads) == needed
    convert(model, tmp_path / "y.gguf", name="my-model", report=lambda note: None)
    assert (tmp_path / "work" / "x.gguf").read_bytes() == (tmp_path / "y.gguf").read_bytes()
    with _core.Gguf.open(tmp_path / "y.gguf") as g:
        assert g["general.name"] == "my-model"
        assert g["general.license"] == "apache-2.0"
    # What is in the cache is not fetched again, and does without the network.
    n = len(hub.downloads)
    assert run(tmp_path, hub, "org/my-model", "-o", "z.gguf").returncode == 0
    assert len(hub.downloads) == n
    hub.repositories.clear()
    offline = run(tmp_path, hub, "org/my-model", "-o", "offline.gguf", HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr
    assert (tmp_path / "work" / "offline.gguf").read_bytes() == (tmp_path / "y.gguf").read_bytes()


def assert_one_line_error(done: subprocess.CompletedProcess[str], *texts: str) -> None:
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("nanollm convert: error: ")
    for text in texts:
        assert text in lines[0]


def test_what_is_not_there_is_an_error_of_one_line(tmp_path: Path, hub: Hub, model: Path) -> None:
    assert_one_line_error(run(tmp_path, hub, "org/nothing", "-o", "x.gguf", "-q"), "org/nothing", "no such model")
    assert_one_line_error(
        run(tmp_path, hub, "org/my-model", "-o", "x.gguf", "-q", HF_HUB_OFFLINE="1"), "org/my-model", "cache"
    )
    hub.shutdown()
    hub.server_close()
    assert_one_line_error(run(tmp_path, hub, "org/my-model", "-o", "x.gguf", "-q"), "org/my-model", "out of reach")
    assert list((tmp_path / "work").iterdir()) == []


def test_an_adapter_and_its_base(tmp_path: Path, hub: Hub) -> None:
    """Of the base no more than the config is fetched."""
    hub.repositories["org/base"] = write_folder(tmp_path / "base", GPT2, gpt2_tensors(GPT2, np.random.default_rng(1)))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "org/base"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    shapes = {"A": (2, 64), "B": (192, 2)}
    tensors = {
        f"base_model.model.transformer.h.0.attn.c_attn.lora_{p}.weight": np.ones(s, np.float32)
        for p, s in shapes.items()
    }
    write_safetensors(adapter / "adapter_model.safetensors", tensors)
    hub.repositories["org/adapter"] = adapter
    done = run(tmp_path, hub, "org/adapter", "-o", "x.gguf")
    assert done.returncode == 0, done.stderr
    assert sorted(hub.downloads) == ["adapter_config.json", "adapter_model.safetensors", "config.json"]
    with _core.Gguf.open(tmp_path / "work" / "x.gguf") as g:
        assert g["general.base_model.0.name"] == "org/base"
        assert [t.name for t in g.tensors] == ["blk.0.attn_qkv.weight.lora_a", "blk.0.attn_qkv.weight.lora_b"]
    del hub.repositories["org/base"]
    assert_one_line_error(
        run(tmp_path, hub, "org/adapter", "-o", "y.gguf", "-q", HF_HOME=str(tmp_path / "other")), "org/base", "--base"
    )
