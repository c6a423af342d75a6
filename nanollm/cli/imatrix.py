"""`nanollm imatrix`: what the columns of a model's matrices weigh in a text, for quantising."""

from __future__ import annotations

from collections.abc import Sequence

from ..model import Model, default_model_path
from ..quality import Windows, collect_importance, rows_per_step
from .common import EXIT_OK, ArgumentParser, check_output, log
from .evaluation import add_options, evaluating, model_options, n_windows, read_text, window_size

_EPILOG = """\
examples:
  nanollm imatrix -m model-f16.gguf -f text.txt -o model.imatrix.gguf
  nanollm-quantize --imatrix model.imatrix.gguf model-f16.gguf model-q4_k_m.gguf q4_k_m
"""


def main(argv: Sequence[str]) -> int:
    """Evaluates the text and writes the file."""
    parser = ArgumentParser(
        "nanollm imatrix",
        "Adds up, over a text, the squares of what each matrix is multiplied with: quantising with these importances\n"
        "keeps precision where the model uses it. Writes GGUF as llama.cpp reads it.",
        _EPILOG,
        usage="nanollm imatrix -m MODEL -f TEXT -o OUT.gguf [options]",
    )
    parser.add_argument("-m", "--model", metavar="FILE", help="GGUF file (default: the model in the package)")
    parser.add_argument("-o", "--output", metavar="OUT.gguf", required=True, help="file to write")
    parser.add_argument("--process-output", action="store_true", help="also for the matrix that makes the logits")
    add_options(parser)
    args = parser.parse(argv)
    path = args.model or default_model_path()
    check_output(args.output, path, args.file)
    text = read_text(args)
    n_ctx = window_size(args, path)
    options = model_options(args)
    options["n_outputs"] = rows_per_step(path, n_ctx) if args.process_output else 1
    with evaluating(args.quiet) as run, Model(path, n_ctx=n_ctx, importance=True, **options) as model:
        run.add(model)
        windows = Windows.of(model, text, n_ctx, n_windows=n_windows(args))
        importance = collect_importance(
            model, windows, name=args.file, with_output=args.process_output, progress=run.progress
        )
        importance.write(args.output)
    if not args.quiet:
        n_tokens = windows.n_windows * n_ctx
        log(f"{args.output}: importances of {len(importance.values)} matrices from {n_tokens} tokens")
    return EXIT_OK
