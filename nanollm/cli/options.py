"""The options of `nanollm-cli`, each written once: name, default and help here, meaning in the code it names."""

from __future__ import annotations

import argparse
import codecs
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import _core
from ..generation import MAX_LOOKUP
from ..model import DEFAULT_N_CTX, MAX_N_CTX
from .common import ArgumentParser, UsageError, clean_text, emit

if TYPE_CHECKING:
    from .._types import SamplerParams
    from ..generation import GenerationOptions

_DESCRIPTION = "Continues a text, or holds a conversation, with a small language model in a GGUF file."

CACHE_TYPES = ("f32", "f16", "q8_0", "q4_0")
"""What a KV cache can be made of."""

_EPILOG = """\
examples:
  nanollm-cli -p "Once upon a time"                      the model that is part of the package
  nanollm-cli -m model.gguf -p "How is Boston" -n 64     a file of yours, at most 64 tokens
  nanollm-cli -m model.gguf --temp 0 -f story.txt        greedy, the prompt from a file
  echo "The sea" | nanollm-cli -m model.gguf | tee out   the prompt from a pipe; stdout holds generated text only
  nanollm-cli -m chat.gguf -cnv -sys "Be brief."         a conversation; Ctrl-C stops an answer, Ctrl-D ends
  nanollm-cli -m chat.gguf -cnv -st -p "Who are you?"    one answer

Long options may also be spelt with underscores. Exit codes: 0 done, 1 error, 2 usage, 130 interrupted.
"""


def build_parser() -> ArgumentParser:
    """The parser, its defaults those of the core."""
    sampling = _core.sampler_params_default()
    parser = ArgumentParser("nanollm-cli", _DESCRIPTION, _EPILOG, usage="nanollm-cli [-m FILE] [-p TEXT] [options]")
    _add_general(parser)
    _add_model(parser)
    _add_text(parser)
    _add_conversation(parser)
    _add_sampling(parser, sampling)
    return parser


def add_cache_types(add: Callable[..., Any]) -> None:
    """`-ctk` and `-ctv`, through a group's `add_argument`."""
    for flag, name, what in (("-ctk", "--cache-type-k", "key"), ("-ctv", "--cache-type-v", "value")):
        add(
            *(flag, name),
            type=str.lower,
            choices=CACHE_TYPES,
            default="f16",
            help=f"type of the {what} cache: {', '.join(CACHE_TYPES)} (default: f16)",
        )


def add_cpus(add: Callable[..., Any]) -> None:
    """`-C`, `-Cr` and `--poll`, through a group's `add_argument`."""
    add(
        *("-C", "--cpu-mask"),
        type=mask,
        default=0,
        metavar="HEX",
        help="CPUs that threads may run on, bit by bit (default: the fast ones)",
    )
    add("-Cr", "--cpu-range", type=_cpu_range, default=0, metavar="LO-HI", help="the same as a range of their numbers")
    add(
        "--poll",
        type=int_in(0, 100),
        default=50,
        metavar="N",
        help="how idle threads wait: 0 sleep at once, 100 spin long (default: 50)",
    )


def cpu_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `Model` takes of those."""
    return {"cpu_mask": args.cpu_mask | args.cpu_range, "poll": args.poll}


def add_adapters(add: Callable[..., Any]) -> None:
    """`--lora` and `--lora-scaled`, through a group's `add_argument`; `adapters` has them as `Model` takes them."""
    for flag, kind, metavar, text in (
        ("--lora", str, "FILE", "LoRA adapter to apply, a GGUF file; may be repeated"),
        ("--lora-scaled", _scaled, "FILE:S", "the same, its addition multiplied with S; may be repeated"),
    ):
        add(flag, dest="adapters", type=kind, action="append", default=[], metavar=metavar, help=text)


def _scaled(text: str) -> tuple[str, float]:
    path, colon, scale = text.rpartition(":")
    try:
        value = float(scale)
        if not (path and colon and abs(value) <= 1e30):
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: expected FILE:SCALE, as in adapter.gguf:0.5") from None
    return path, value


class ListDevices(argparse.Action):
    """`--list-devices`: prints them and exits, as --version does."""

    def __call__(self, parser: argparse.ArgumentParser, *args: object) -> None:
        from .report import device_lines

        emit(device_lines() + "\n")
        parser.exit()


def add_list_devices(add: Callable[..., Any]) -> None:
    add("--list-devices", action=ListDevices, nargs=0, help="print the devices that can run layers and exit")


LAYERS_FLAGS = ("-ngl", "--n-gpu-layers", "--gpu-layers")


def add_devices(add: Callable[..., Any]) -> None:
    """`-ngl` and `-dev`, through a group's `add_argument`."""
    add(
        *LAYERS_FLAGS,
        type=_layers,
        default=0,
        metavar="N",
        help="layers on a device: the last N, and the output; auto: as many as it has memory for (default: 0)",
    )
    add_device(add)


def add_device(add: Callable[..., Any]) -> None:
    add(
        *("-dev", "--device"),
        type=int_in(0, MAX_N_CTX),
        default=0,
        metavar="N",
        help="which device, as --list-devices counts them (default: 0)",
    )


def device_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `Model` takes of those."""
    return {"n_gpu_layers": args.n_gpu_layers, "device": args.device}


def _layers(text: str) -> int | str:
    if text == "auto":
        return text
    if re.fullmatch(r"\d{1,9}", text) is None:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of layers or auto")
    return int(text)


def mask(text: str) -> int:
    """A set of CPUs, as -C takes it."""
    if re.fullmatch(r"(0[xX])?[0-9A-Fa-f]{1,64}", text) is None:
        raise argparse.ArgumentTypeError(f"{text}: expected a hexadecimal number of at most 256 bits, as in 0xf0")
    return int(text, 16)


def _cpu_range(text: str) -> int:
    match = re.fullmatch(r"(\d{1,3})-(\d{1,3})", text)
    if match is None or not int(match[1]) <= int(match[2]) <= 255:
        raise argparse.ArgumentTypeError(f"{text}: expected two numbers of CPUs, 0 to 255, as in 4-7")
    return (1 << (int(match[2]) + 1)) - (1 << int(match[1]))


def _add_general(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("general").add_argument
    add("-h", "--help", action="help", help="print this and exit")
    add("--version", action="version", version=f"nanollm {_core.version()}", help="print the version and exit")
    add_list_devices(add)
    add("-v", "--verbose", action="store_true", help="also print the file's metadata and the machine's levels")
    add("--json", action="store_true", help="print one JSON line with text, timings and memory instead of text")


def _add_model(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("model").add_argument
    add("-m", "--model", metavar="FILE", help="GGUF file (default: the model that is part of the package)")
    add_adapters(add)
    add(
        *("-c", "--ctx-size", "--context"),
        type=int_in(0),
        metavar="N",
        help=f"size of the context in tokens; 0: the model's own (default: the model's own, at most {DEFAULT_N_CTX})",
    )
    add(
        *("-b", "--batch-size"),
        type=int_in(1),
        default=512,
        metavar="N",
        help="most prompt tokens evaluated in one step (default: 512)",
    )
    add("-t", "--threads", type=int_in(0), default=0, metavar="N", help="threads (default: one per fast core)")
    add("-tb", "--threads-batch", type=int_in(0), default=0, metavar="N", help="threads for prompts (default: as -t)")
    add_cpus(add)
    add_devices(add)
    add_cache_types(add)
    add("--cpu", metavar="LEVEL", help="kernel level to use (default: the best this machine has)")
    add(
        "--lookup",
        type=int_in(0, MAX_LOOKUP),
        default=0,
        metavar="N",
        help="try out up to N tokens a step where the text repeats itself: the same text, sooner (default: 0, off)",
    )
    add(
        "--deterministic",
        action="store_true",
        help="the same bits for every batch size and cache state (for every number of threads they are always)",
    )


def _add_text(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("prompt and output").add_argument
    add("-p", "--prompt", metavar="TEXT", help="text to continue (default: stdin where that is no terminal)")
    add("-f", "--file", metavar="FILE", help="read the prompt from a file, taken as it is; -: from stdin")
    add(
        *("-n", "--predict", "--n-predict"),
        type=int_in(-2),
        default=-1,
        metavar="N",
        help="tokens to generate; -1: until the model ends the text; -2: until the context is full (default: -1)",
    )
    add(
        *("-e", "--escape"),
        action="store_true",
        default=True,
        help=r"turn \n, \t, \\, \", \', \xHH in texts given as options into characters (default)",
    )
    add("--no-escape", dest="escape", action="store_false", help="take those texts as they are")
    add(
        *("-r", "--reverse-prompt"),
        action="append",
        default=[],
        metavar="TEXT",
        help="end the text, or the answer, before TEXT; may be repeated",
    )
    add("--prompt-cache", metavar="FILE", help="keep what the prompt left in the KV cache in FILE, and start from it")
    add("--prompt-cache-all", action="store_true", help="keep the generated text there, too")
    add("--prompt-cache-ro", action="store_true", help="use FILE and do not write it")
    add("--no-display-prompt", dest="display_prompt", action="store_false", help="do not print the prompt")
    add("--verbose-prompt", action="store_true", help="print the prompt's tokens")


def _add_conversation(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("conversation").add_argument
    add(
        *("-cnv", "--conversation"),
        action="store_true",
        default=None,
        help="render the prompt with the chat template and talk (default: in a terminal, where the file has one)",
    )
    add("-no-cnv", "--no-conversation", dest="conversation", action="store_false", help="continue the text as it is")
    add("-st", "--single-turn", action="store_true", help="end after one answer")
    add("-sys", "--system-prompt", metavar="TEXT", help="the system message")
    add(
        "--chat-template",
        metavar="NAME",
        help="Jinja source, or chatml, gemma, llama2, llama3, mistral, phi3, zephyr (default: the file's own)",
    )
    add("--simple-io", action="store_true", help="plain lines: no editing, no history")


def _add_sampling(parser: ArgumentParser, default: SamplerParams) -> None:
    group = parser.add_argument_group(
        "sampling", "in this order: logit bias, penalties, top-k, typical, top-p, min-p, temperature"
    )

    def add(*names: str, field: str, kind: Callable[[str], Any], text: str, metavar: str = "N") -> None:
        value = getattr(default, field)
        shown = f"{value:g}" if isinstance(value, float) else value
        group.add_argument(
            *names, dest=field, type=kind, default=None, metavar=metavar, help=f"{text} (default: {shown})"
        )

    any_number, fraction = number_in(), number_in(0.0, 1.0)
    group.add_argument("-s", "--seed", type=int_in(-1), default=-1, metavar="N", help="-1: a fresh one (default: -1)")
    add("--temp", "--temperature", field="temperature", kind=any_number, text="temperature; 0: greedy", metavar="X")
    add("--top-k", field="top_k", kind=int_in(), text="keep the N best tokens; 0: all")
    add("--top-p", field="top_p", kind=fraction, text="keep the best tokens that make up P; 1: off", metavar="P")
    add("--min-p", field="min_p", kind=fraction, text="keep tokens at least P times as likely as the best", metavar="P")
    add("--typical", "--typical-p", field="typical_p", kind=fraction, text="locally typical; 1: off", metavar="P")
    add("--repeat-penalty", field="repeat_penalty", kind=any_number, text="divides seen tokens' logits", metavar="X")
    add(
        "--repeat-last-n",
        field="penalty_last_n",
        kind=int_in(-1),
        text="tokens penalties see; -1: the whole context",
    )
    add("--presence-penalty", field="presence_penalty", kind=any_number, text="subtracted from seen ones", metavar="X")
    add("--frequency-penalty", field="frequency_penalty", kind=any_number, text="… for each time seen", metavar="X")
    add(
        "--mirostat",
        field="mirostat",
        kind=int_in(0, 2),
        text="version; 0: off; replaces top-k, -p, min-p, typical",
    )
    add("--mirostat-lr", field="mirostat_eta", kind=any_number, text="learning rate, eta", metavar="X")
    add("--mirostat-ent", field="mirostat_tau", kind=any_number, text="target entropy, tau", metavar="X")
    group.add_argument(
        *("-l", "--logit-bias"),
        type=_bias,
        action="append",
        default=[],
        metavar="ID(+|-)X",
        help="add X to the logit of token ID: 15043+1, 15043-inf; may be repeated",
    )
    group.add_argument("--ignore-eos", action="store_true", help="never draw a token that ends the text")


SAMPLER_FIELDS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "penalty_last_n",
    "presence_penalty",
    "frequency_penalty",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
)


def generation_options(args: argparse.Namespace) -> GenerationOptions:
    """What `Model.generate` takes, from the command line."""
    options: GenerationOptions = {
        "max_tokens": None if args.predict < 0 else args.predict,
        "ignore_eos": args.ignore_eos or args.predict == -2,
        "stop": [text_of(args, text) for text in args.reverse_prompt],
        "seed": None if args.seed < 0 else args.seed,
        "logit_bias": dict(args.logit_bias),
        "lookup": args.lookup,
    }
    given: Any = {name: value for name in SAMPLER_FIELDS if (value := getattr(args, name)) is not None}
    return options | given  # type: ignore[no-any-return]


def text_of(args: argparse.Namespace, text: str) -> str:
    """A text given as an option: valid Unicode, escapes resolved unless --no-escape stands."""
    text = clean_text(text)
    return unescape(text) if args.escape else text


_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}(?:\\x[0-9A-Fa-f]{2})*|[nrt\\\"'])")


def unescape(text: str) -> str:
    r"""Resolves \n, \r, \t, \\, \", \' and \xHH; neighbouring \xHH are bytes of UTF-8. The rest stays."""

    def resolved(match: re.Match[str]) -> str:
        word = match.group()
        if word[1] == "x":
            return codecs.decode(word.replace("\\x", ""), "hex").decode("utf-8", "replace")
        return {"n": "\n", "r": "\r", "t": "\t"}.get(word[1], word[1])

    return _ESCAPE.sub(resolved, text)


def int_in(low: int | None = None, high: int | None = None) -> Callable[[str], int]:
    """What reads an integer of a range, for argparse."""

    def integer(text: str) -> int:
        value = int(text)
        if (low is not None and value < low) or (high is not None and value > high) or abs(value) >= 1 << 63:
            raise argparse.ArgumentTypeError(f"{text}: expected {_range(low, high)}")
        return value

    return integer


def number_in(low: float | None = None, high: float | None = None) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if value != value or (low is not None and value < low) or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{text}: expected {_range(low, high)}")
        return value

    return number


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return "a number" if high is None else f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


def _bias(text: str) -> tuple[int, float]:
    match = re.fullmatch(r"(\d+)([+-].+)", text)
    try:
        if match is None:
            raise ValueError
        return int(match[1]), number_in()(match[2])
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: expected ID+BIAS or ID-BIAS, as in 15043+1") from None


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a command line. Raises UsageError for what goes not together."""
    args = build_parser().parse(argv)
    if args.prompt is not None and args.file is not None:
        raise UsageError("-p and -f: give one of the two")
    if args.system_prompt is not None and args.conversation is False:
        raise UsageError("-sys and -no-cnv: a system message needs a conversation")
    if args.prompt_cache is None and (args.prompt_cache_all or args.prompt_cache_ro):
        raise UsageError("--prompt-cache-all, --prompt-cache-ro: need --prompt-cache")
    return args
