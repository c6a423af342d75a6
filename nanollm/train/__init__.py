"""Training: `Trainer`, its options, its data, models with random weights, logs. docs/training.md has examples."""

from __future__ import annotations

from .checkpoint import State, read_state
from .data import Batch, Corpus, Order
from .documents import Document, Piece
from .initial import ARCHITECTURES, ModelConfig, create_model, read_config
from .log import Log, plot, read_log
from .options import TrainOptions
from .setup import TrainMemory
from .trainer import DivergedError, Step, Trainer

__all__ = [
    "ARCHITECTURES",
    "Batch",
    "Corpus",
    "DivergedError",
    "Document",
    "Log",
    "ModelConfig",
    "Order",
    "Piece",
    "State",
    "Step",
    "TrainMemory",
    "TrainOptions",
    "Trainer",
    "create_model",
    "plot",
    "read_config",
    "read_log",
    "read_state",
]
