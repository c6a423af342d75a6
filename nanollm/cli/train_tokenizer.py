"""`nanollm train-tokenizer`: a vocabulary for a model from scratch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ..convert.tokenizer import PRE_TOKENIZERS
from ..train.tokenizer import train_tokenizer
from .common import EXIT_OK, ArgumentParser, UsageError, check_output, format_bytes, log
from .options import int_in
from .progress import progress_of

_EPILOG = """\
examples:
  nanollm train-tokenizer stories.txt -o folder/tokenizer.json --vocab-size 2048
  nanollm train-tokenizer *.txt -o folder --vocab-size 32000 --pre llama-bpe

Needs the tokenizers package: pip install 'nanollm[tokenizer]'
"""


def main(argv: Sequence[str]) -> int:
    """Learns the merges and writes tokenizer.json with tokenizer_config.json beside it."""
    parser = ArgumentParser(
        "nanollm train-tokenizer",
        "Learns a byte-level BPE from text files (UTF-8): any text can be written with it. OUT is a folder or its\n"
        "tokenizer.json; tokenizer_config.json, which names the special tokens, is written beside it.",
        _EPILOG,
        usage="nanollm train-tokenizer TEXT... -o OUT [options]",
    )
    add = parser.add_argument
    add("files", metavar="TEXT", nargs="+", help="text file; may be repeated")
    add("-o", "--output", metavar="OUT", required=True, help="folder, or tokenizer.json in one")
    add("--vocab-size", type=int_in(1), default=2048, metavar="N", help="tokens, special ones included (default: 2048)")
    add("--pre", choices=tuple(PRE_TOKENIZERS), default="gpt-2", help="how text is cut into words (default: gpt-2)")
    add("--bos", default="<s>", metavar="TEXT", help="the token that begins a text (default: <s>)")
    add("--eos", default="</s>", metavar="TEXT", help="the token that ends a text (default: </s>)")
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("-h", "--help", action="help", help="print this and exit")
    args = parser.parse(argv)
    folder = _folder(Path(args.output))
    check_output(str(folder / "tokenizer.json"), *args.files)
    start = time.perf_counter()
    with progress_of(args.quiet) as progress:
        report = train_tokenizer(
            args.files,
            folder,
            args.vocab_size,
            pre=args.pre,
            bos=args.bos,
            eos=args.eos,
            progress=lambda done, total: progress(done, total, ""),
        )
    if not args.quiet:
        if report.n_vocab < args.vocab_size:
            log(f"note: the text gave {report.n_vocab} tokens, not {args.vocab_size}")
        seconds = time.perf_counter() - start
        log(f"{report.path}: {report.n_vocab} tokens from {format_bytes(report.n_bytes)} in {seconds:.1f} s")
    return EXIT_OK


def _folder(output: Path) -> Path:
    if output.name == "tokenizer.json":
        output = output.parent
    if output.suffix == ".json":
        raise UsageError(f"{output}: expected a folder or a path to tokenizer.json, the name that readers look for")
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: found a file, expected a folder")
    output.mkdir(parents=True, exist_ok=True)
    return output
