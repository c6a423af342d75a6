"""How good a model is on a text: perplexity, divergence from another model, importance of its weights' columns.

Logits are reduced as each step gives them, a few rows at a time; what is kept is a few numbers a token.
"""

from .compare import Comparison, compare
from .divergence import Divergence, divergence
from .importance import collect_importance
from .logprobs import Logprobs, LogprobsWriter
from .perplexity import Perplexity, perplexity, rows_per_step
from .reduce import Estimate
from .windows import Windows

__all__ = [
    "Comparison",
    "Divergence",
    "Estimate",
    "Logprobs",
    "LogprobsWriter",
    "Perplexity",
    "Windows",
    "collect_importance",
    "compare",
    "divergence",
    "perplexity",
    "rows_per_step",
]
