"""The prompt cache file of `nanollm-cli`: what a prompt left in the KV cache, for the next run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .common import log

if TYPE_CHECKING:
    from ..generation import Generation
    from ..model import Model

__all__ = ["PromptCache"]


class PromptCache:
    """--prompt-cache FILE: read at the start where it is there, written after the prompt where that has more.

    With --prompt-cache-all it is written after each answer instead, with the generated text; with --prompt-cache-ro
    never.
    """

    def __init__(self, model: Model, args: argparse.Namespace) -> None:
        self._model = model
        self._path: str | None = args.prompt_cache
        self._all: bool = args.prompt_cache_all
        self._is_done: bool = args.prompt_cache_ro or self._path is None
        self._loaded: list[int] = []
        if self._path is not None and Path(self._path).exists():
            self._loaded = model.load_prompt(self._path)
            if not args.json:
                log(f"prompt cache: {len(self._loaded)} tokens from {self._path}")

    def after_prompt(self, generation: Generation) -> None:
        """To be called when the first piece is there; later calls do nothing."""
        if not self._is_done and not self._all:
            self._save(len(generation.prompt_ids))

    def at_end(self, generation: Generation) -> None:
        """To be called after the last piece."""
        if not self._is_done and self._all:
            # Without the last token, not evaluated yet, and without what a draft had after it.
            self._save(len(generation.prompt_ids) + max(len(generation.ids) - 1, 0))
        elif generation.finish_reason != "cancelled":  # a text without a piece
            self.after_prompt(generation)

    def _save(self, n_tokens: int) -> None:
        ids = self._model.cached_tokens[:n_tokens]
        if self._path is not None and ids and ids != self._loaded[: len(ids)]:
            self._model.save_prompt(self._path, len(ids))
        self._is_done = not self._all
