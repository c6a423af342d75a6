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


def is_name(source: str | Path) -> bool:
    """Is it spelt like a repository of the hub, and no file or folder here?"""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(source)) is not None and not Path(source).exists()


def fetch(repository: str, files: tuple[str, ...] = MODEL, show_progress: bool = False) -> Path:
    """A folder with those of ``files`` that the repository has. Raises FileError.

    ``show_progress``: draw the hub's own bars on stderr.
    """
    try:
        from huggingface_hub import errors, snapshot_download
        from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    except ImportError:
        raise FileError(
            f"{repository}: no such folder (to fetch it from the Hugging Face hub: pip install 'nanollm[hub]')"
        ) from None
    were_disabled = are_progress_bars_disabled()
    if not show_progress:
        disable_progress_bars()
    try:
        return Path(snapshot_download(repository, allow_patterns=list(files)))
    except errors.GatedRepoError:
        why = "its owner grants access on the hub's page (then: hf auth login)"
    except errors.RepositoryNotFoundError:
        why = "no such folder, and no such model on the Hugging Face hub (or a private one: hf auth login)"
    except errors.LocalEntryNotFoundError as e:
        why = f"not in the cache, and the hub is out of reach ({_first_line(e)})"
    except (OSError, ValueError) as e:
        why = _first_line(e)
    finally:
        if not were_disabled:
            enable_progress_bars()
    raise FileError(f"{repository}: {why}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
