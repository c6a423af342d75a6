"""Names on the Hugging Face hub, ``org/model``: the files that a converter reads, in the hub's own cache."""

from __future__ import annotations

import re
from pathlib import Path

from nanollm.errors import FileError

__all__ = ["CONFIG", "MODEL", "fetch", "is_name"]

CONFIG = ("config.json", "adapter_config.json")
MODEL = (
    *CONFIG,
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "README.md",
)
"""What may matter to a converter, and none of the other copies of the weights that repositories hold."""


def is_name(text: str) -> bool:
    """Is it spelt like a repository of the hub?"""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text) is not None


def fetch(repository: str, files: tuple[str, ...] = MODEL) -> Path:
    """A folder with those of ``files`` that the repository has. Raises FileError."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise FileError(
            f"{repository}: no such folder (to fetch it from the Hugging Face hub: pip install 'nanollm[hub]')"
        ) from None
    try:
        return Path(snapshot_download(repository, allow_patterns=list(files)))
    except (OSError, ValueError) as e:
        raise FileError(f"{repository}: {(str(e).splitlines() or [type(e).__name__])[0]}") from e
