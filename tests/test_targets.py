"""Programs built for other processors, run under qemu: what they hold, what they need, and that they say the same.

NANOLLM_TEST_TARGETS names a folder with a build for each target, under the name of its file in toolchains/:

    cmake -S . -B build/targets/riscv64-linux-musl -DCMAKE_TOOLCHAIN_FILE=toolchains/riscv64-linux-musl.cmake \\
        -DNANOLLM_BUILD_TESTS=ON && cmake --build build/targets/riscv64-linux-musl
    NANOLLM_TEST_TARGETS=build/targets pytest tests/test_targets.py

ANDROID_NDK names an Android NDK to build with.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import GPT2, LLAMA, Tensors, gpt2_tensors, llama_tensors, write_folder

from nanollm import Model
from nanollm.convert import convert
from nanollm.models import base, decoder, llama
from nanollm.models.base import Architecture, register

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Processor:
    """One that qemu knows: how to run as it, and the levels that must be found there."""

    name: str
    emulator: tuple[str, ...]
    levels: str


@dataclass(frozen=True)
class Target:
    """A file in toolchains/ and what its programs are checked with."""

    processors: tuple[Processor, ...]
    binutils: str
    is_static: bool
    checks_kernels: bool = True
    """False where the C tests of the same processors run elsewhere."""


def _arm(emulator: str, *more: str) -> tuple[Processor, ...]:
    kinds = {
        "cortex-a57": "generic,neon",
        "cortex-a76": "generic,neon,dotprod",
        "max": "generic,neon,dotprod,i8mm",
    }
    return tuple(Processor(cpu, (emulator, *more, "-cpu", cpu), levels) for cpu, levels in kinds.items())


_AARCH64_LIBRARIES = ("-L", "/usr/aarch64-linux-gnu")
_ARMHF_LIBRARIES = ("-L", "/usr/arm-linux-gnueabihf")
TARGETS = {
    "x86_64-linux-musl": Target(
        (Processor("Nehalem", ("qemu-x86_64-static", "-cpu", "Nehalem"), "generic"),), "", is_static=True
    ),
    "aarch64-linux-musl": Target(
        _arm("qemu-aarch64-static"), "aarch64-linux-gnu-", is_static=True, checks_kernels=False
    ),
    "armv7-linux-musleabihf": Target(
        (Processor("cortex-a7", ("qemu-arm-static", "-cpu", "cortex-a7"), "generic,neon"),),
        "arm-linux-gnueabihf-",
        is_static=True,
    ),
    "riscv64-linux-musl": Target(
        (Processor("rv64", ("qemu-riscv64-static",), "generic"),), "riscv64-linux-gnu-", is_static=True
    ),
    "x86_64-linux-gnu.2.17": Target((Processor("this machine", (), ""),), "", is_static=False, checks_kernels=False),
    "aarch64-linux-gnu.2.17": Target(
        _arm("qemu-aarch64-static", *_AARCH64_LIBRARIES)[:1], "aarch64-linux-gnu-", False, checks_kernels=False
    ),
    "tegra-x1": Target(
        _arm("qemu-aarch64-static", *_AARCH64_LIBRARIES)[:1], "aarch64-linux-gnu-", False, checks_kernels=False
    ),
    "arm-linux-gnueabihf": Target(
        (Processor("cortex-a7", ("qemu-arm-static", *_ARMHF_LIBRARIES, "-cpu", "cortex-a7"), "generic,neon"),),
        "arm-linux-gnueabihf-",
        is_static=False,
        checks_kernels=False,
    ),
    "riscv64-linux-gnu": Target(
        (Processor("rv64", ("qemu-riscv64-static", "-L", "/usr/riscv64-linux-gnu"), "generic"),),
        "riscv64-linux-gnu-",
        is_static=False,
    ),
}
PROCESSORS = [(name, p) for name, target in TARGETS.items() for p in target.processors]

every_target = pytest.mark.parametrize("name", TARGETS)
every_processor = pytest.mark.parametrize(
    ("name", "processor"), PROCESSORS, ids=[f"{name}-{p.name}" for name, p in PROCESSORS]
)


def folder_of(name: str) -> Path:
    """A target's build."""
    given = os.environ.get("NANOLLM_TEST_TARGETS")
    if given is None:
        pytest.skip("NANOLLM_TEST_TARGETS names no folder of builds")
    path = Path(given) / name
    if not path.is_dir():
        pytest.skip(f"{path} is no folder")
    return path


def program(name: str, which: str = "nanollm-run") -> Path:
    """A program of a target's build."""
    found = [path for path in folder_of(name).rglob(which) if path.is_file()]
    assert len(found) == 1, f"{which} in {folder_of(name)}: {found}"
    return found[0]


def run(processor: Processor, path: Path, *words: object, stderr: bool = False) -> str:
    """What a program prints as a processor; it must end well."""
    if processor.emulator and shutil.which(processor.emulator[0]) is None:
        pytest.skip(f"no {processor.emulator[0]}")
    done = subprocess.run(
        [*processor.emulator, path, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, (done.args, done.stdout[-500:], done.stderr[-2000:].decode(errors="replace"))
    return (done.stderr if stderr else done.stdout).decode()


# ------------------------------------------------------------ what is in them


@cache
def instructions(path: Path, binutils: str) -> str:
    """The disassembly of an object or program."""
    tool = f"{binutils}objdump"
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}")
    words = [tool, "-d", "--no-show-raw-insn", str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


# Levels whose instructions may be in a file of a level, and what gives each away.
_X86 = {
    "avx2": ("avx2",),
    "avxvnni": ("avx2", "avxvnni"),
    "avx512": ("avx2", "avx512"),
    "amx": ("avx2", "avx512", "amx"),
}
_ARM = {"dotprod": ("dotprod",), "i8mm": ("dotprod", "i8mm")}
_SIGNS = {
    "avx2": r"\tv[a-z0-9]+ ",
    "avxvnni": r"\{vex\} +vpdp",
    "avx512": r"%zmm\d|%[xy]mm(1[6-9]|2\d|3[01])\b|%k[0-7]\b",
    "amx": r"%tmm\d",
    "dotprod": r"\t[su]dot\t",
    "i8mm": r"\t([su]|us)mmla\t|\tusdot\t",
}


def signs_in(text: str, is_x86: bool) -> set[str]:
    """Levels whose instructions a disassembly holds."""
    return {name for name in (_X86 if is_x86 else _ARM) if re.search(_SIGNS[name], text)}


@every_target
def test_newer_instructions_stay_in_files_of_their_level(name: str) -> None:
    folder, target = folder_of(name), TARGETS[name]
    is_x86, is_arm = name.startswith("x86_64"), name.startswith(("aarch64", "tegra"))
    if not (is_x86 or is_arm):
        pytest.skip("one level")
    objects = [*folder.rglob("ggml_core.dir/**/*.o"), *folder.rglob("nanollm-run.dir/**/*.o")]
    assert len(objects) > 40
    levels = _X86 if is_x86 else _ARM
    seen: set[str] = set()
    for path in objects:
        level = next((part for part in re.split(r"[_.]", path.name) if part in levels), None)
        found = signs_in(instructions(path, target.binutils), is_x86)
        allowed = set(levels[level]) if level is not None else set()
        assert found <= allowed, f"{path.relative_to(folder)}: instructions of {found - allowed}"
        seen |= found
    assert "avx2" in seen if is_x86 else "dotprod" in seen  # else the patterns above match nothing


def dynamic(path: Path) -> list[str]:
    return subprocess.run(["readelf", "-dW", path], capture_output=True, text=True, check=True).stdout.splitlines()


@every_target
def test_libraries_and_symbols_that_are_needed(name: str) -> None:
    path = program(name)
    needed = {re.sub(r".*\[(.*)\].*", r"\1", line) for line in dynamic(path) if "(NEEDED)" in line}
    if TARGETS[name].is_static:
        assert needed == set()
        return
    stems = {library.split(".so")[0] for library in needed}
    assert stems <= {"libc", "libm", "libdl", "libpthread", "ld-linux-x86-64", "ld-linux-aarch64", "ld-linux-armhf"}
    if name.endswith("2.17"):
        out = subprocess.run(["readelf", "-VW", path], capture_output=True, text=True, check=True).stdout
        versions = {tuple(map(int, v.split("."))) for v in re.findall(r"Name: GLIBC_([\d.]+)", out)}
        assert versions
        assert max(versions) <= (2, 17)


@every_target
def test_the_static_program_stays_small(name: str) -> None:
    if not TARGETS[name].is_static:
        pytest.skip("dynamic")
    assert program(name).stat().st_size <= 600 * 1024


# Of what bionic (Android's libc and libm) has at API level 24. A name that is missing here is looked up in the maps of
# symbols in its sources (android.googlesource.com/platform/bionic, libc/libc.map.txt and libm/libm.map.txt): one with
# introduced=25 or more does not get in.
_BIONIC_24 = """
__errno _exit abort access atexit calloc ceil ceilf clock_gettime clock_nanosleep close closedir cos cosf erf erff
exit exp exp2 exp2f expf expm1 expm1f fabs fchmod fclose fcntl feof ferror fflush fgetc fgets fileno floor floorf fmax
fmaxf fmin fminf fmod fmodf fopen fprintf fputc fputs fread free frexp fseeko fstat fsync ftello ftruncate fwrite
getauxval getc getcwd getenv getline getpid getrlimit gettimeofday gmtime_r isatty kill ldexp localtime_r log log10
log1p log2 log2f logf lrint lrintf lround lroundf lseek lstat madvise malloc memchr memcmp memcpy memmem memmove
memrchr memset mkdir mkstemp mlock mmap mprotect munlock munmap nanosleep nearbyintf open opendir pipe poll
posix_fadvise posix_madvise posix_memalign pow powf pread printf pselect pthread_attr_destroy pthread_attr_init
pthread_attr_setstacksize pthread_cond_broadcast pthread_cond_destroy pthread_cond_init pthread_cond_signal
pthread_cond_timedwait pthread_cond_wait pthread_create pthread_detach pthread_join pthread_mutex_destroy
pthread_mutex_init pthread_mutex_lock pthread_mutex_trylock pthread_mutex_unlock pthread_once pthread_self
pthread_sigmask putchar puts pwrite qsort raise read readdir readlink realloc realpath regcomp regexec regfree rename
rint rintf rmdir round roundf sched_getaffinity sched_getcpu sched_setaffinity sched_yield select setlocale setvbuf
sigaction sigaddset sigemptyset sigfillset signal sigprocmask sin sinf snprintf sprintf sqrt sqrtf sscanf stat stderr
stdin stdout strcasecmp strcat strchr strcmp strcpy strcspn strdup strerror strerror_r strftime strlen strncasecmp
strncat strncmp strncpy strndup strnlen strpbrk strrchr strspn strstr strtod strtof strtok_r strtol strtoll strtoul
strtoull sysconf tan tanh tanhf time trunc truncf ungetc unlink usleep vfprintf vsnprintf waitpid write
"""


def test_nothing_is_used_that_android_7_lacks() -> None:
    folder = folder_of("aarch64-linux-musl")
    objects = [*folder.rglob("ggml_core.dir/**/*.o"), *folder.rglob("apps/**/*.o")]
    text = subprocess.run(["nm", "-g", *objects], capture_output=True, text=True, check=True).stdout
    undefined = set(re.findall(r"^ +U (\w+)$", text, re.M))
    defined = set(re.findall(r"^[0-9a-f]+ \w (\w+)$", text, re.M))
    foreign = {re.sub(r"^__errno_location$", "__errno", name) for name in undefined - defined}
    foreign -= {"bcmp"}  # clang makes it of memcmp where the target's libc has it
    assert {"malloc", "mmap", "pthread_create"} <= foreign
    unknown = foreign - set(_BIONIC_24.split())
    assert not unknown, f"look up in bionic: {sorted(unknown)}"


# ----------------------------------------------------------- what they compute


@every_processor
def test_the_processors_levels(name: str, processor: Processor) -> None:
    words = ["-m", ROOT / "nanollm/data/default.gguf", "-p", "x", "-n", 1, "-v"]
    out = run(processor, program(name), *words, stderr=True)
    found = re.search(r"^cpu levels +(.*)$", out, re.M)
    assert found is not None, out
    assert found[1].replace(", ", ",") == processor.levels or not processor.levels


@every_processor
def test_kernels_against_the_reference(name: str, processor: Processor) -> None:
    if not TARGETS[name].checks_kernels:
        pytest.skip("these processors' kernels are checked with another build")
    out = run(processor, program(name, "kerncheck"))
    assert f"levels {processor.levels}" in out


@every_processor
def test_published_token_ids(name: str, processor: Processor, data_dir: Path) -> None:
    if not TARGETS[name].checks_kernels:
        pytest.skip("these processors' tokenizers are checked with another build")
    run(processor, program(name, "test_tokenizer"), data_dir, 4096)


@pytest.fixture(scope="session")
def stories_of(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """stories260K in three types."""
    folder = tmp_path_factory.mktemp("stories")
    paths = {kind: folder / f"stories260K-{kind}.gguf" for kind in ("f32", "f16", "q8_0")}
    for kind, path in paths.items():
        convert(data_dir / "stories260K.bin", path, kind, tokenizer=data_dir / "tok512.bin", report=lambda note: None)
    return paths


def greedy(processor: Processor, path: Path, model: Path, prompt: str, n: int, level: str | None = None) -> str:
    words = ["-m", model, "-p", prompt, "-n", n, "--temp", 0, "-t", 1, "--no-display-prompt"]
    return run(processor, path, *words, *(["--cpu", level] if level else [])).removesuffix("\n")


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
@every_processor
def test_the_published_story(
    name: str, processor: Processor, kind: str, stories_of: dict[str, Path], stories_text: str
) -> None:
    """On every level of the processor: greedily drawn, the text is one and the same."""
    path, model = program(name), stories_of[kind]
    n = 200 if kind == "f32" else 64
    text = greedy(processor, path, model, "", n)
    assert len(text) > 100
    assert stories_text.startswith(text.lstrip())
    for level in processor.levels.split(",")[:-1]:
        lower = greedy(processor, path, model, "", 48, level)
        assert len(lower) > 80
        assert text.startswith(lower)


# ---------------------------------------------------- architectures of the file


@pytest.fixture
def unregistered() -> Iterator[None]:
    """Forgets architectures that a test registers."""
    before = dict(base._registry)
    yield
    base._registry.clear()
    base._registry.update(before)


def _with_biases(tensors: Tensors) -> Tensors:
    rng = np.random.default_rng(7)
    named = re.compile(r"self_attn\.[qkv]_proj\.weight$")
    biases = {
        name.removesuffix("weight") + "bias": rng.standard_normal(len(x)).astype(np.float32)
        for name, x in tensors.items()
        if named.search(name)
    }
    return tensors | biases


def _with_norms(tensors: Tensors, n: int) -> Tensors:
    norms = {f"model.layers.{i}.self_attn.{x}_norm.weight": np.ones(n, np.float32) for i in range(2) for x in "qk"}
    return tensors | norms


def _parallel() -> None:
    """An architecture that no other code knows: attention beside the feed-forward part, logits doubled."""

    def build(g: Any, c: decoder.Decoder) -> Any:
        x = g.rows("token_embd.weight", g.tokens)
        for i in range(c.n_layer):
            b = g.scope(f"blk.{i}")
            h = g.rms_norm(x, b.w("attn_norm"), c.norm_eps)
            q = g.view(g.linear(h, b.w("attn_q")), c.n_head, c.head_dim)
            k = g.view(g.linear(h, b.w("attn_k")), c.n_head_kv, c.head_dim)
            v = g.view(g.linear(h, b.w("attn_v")), c.n_head_kv, c.head_dim)
            q, k = decoder.rotate(g, q, c), decoder.rotate(g, k, c)
            attended = g.linear(g.attention(q, k, v, layer=i, window=c.window), b.w("attn_output"))
            h = g.rms_norm(x, b.w("ffn_norm"), c.norm_eps)
            h = g.swiglu(g.linear(h, b.w("ffn_gate")), g.linear(h, b.w("ffn_up")))
            x = g.add(x, g.add(attended, g.linear(h, b.w("ffn_down"))))
        x = g.rms_norm(g.wanted(x), g.w("output_norm"), c.norm_eps)
        logits = g.linear(x, g.w("output", tied="token_embd"))
        return g.add(logits, logits)

    like = llama.LLAMA.huggingface
    assert like is not None
    names = dataclasses.replace(like, model_types=("sidebyside",))
    register(Architecture("sidebyside", read=llama.LLAMA.read, build=build, huggingface=names))


def _folders() -> dict[str, tuple[dict[str, Any], Callable[[dict[str, Any], np.random.Generator], Tensors]]]:
    return {
        "gpt2": (GPT2, gpt2_tensors),
        "llama": (LLAMA, llama_tensors),
        "qwen2": (
            LLAMA | {"model_type": "qwen2", "use_sliding_window": False},
            lambda c, rng: _with_biases(llama_tensors(c, rng)),
        ),
        "qwen3": (
            LLAMA | {"model_type": "qwen3", "use_sliding_window": False, "head_dim": 16},
            lambda c, rng: _with_norms(llama_tensors(c, rng), 16),
        ),
        "sidebyside": (LLAMA | {"model_type": "sidebyside"}, llama_tensors),
    }


@pytest.mark.parametrize("architecture", _folders())
def test_a_file_of_each_architecture_says_the_same_there(architecture: str, tmp_path: Path, unregistered: None) -> None:
    """Converted here, run on another processor by a program that was built without knowing it."""
    path = program("aarch64-linux-musl")
    if architecture == "sidebyside":
        _parallel()
    config, tensors = _folders()[architecture]
    folder = write_folder(tmp_path / "in", config, tensors(config, np.random.default_rng(5)))
    model_path = tmp_path / "model.gguf"
    convert(folder, model_path, "f32", report=lambda note: None)
    with Model(str(model_path)) as model:
        expected = "".join(model.generate("the quick brown", max_tokens=24, temperature=0.0, ignore_eos=True))
    assert len(expected) > 20
    for processor in TARGETS["aarch64-linux-musl"].processors:
        words = ["-m", model_path, "-p", "the quick brown", "-n", 24, "--temp", 0, "--ignore-eos"]
        text = run(processor, path, *words, "--no-display-prompt").removesuffix("\n")
        assert text == expected, processor.name


# ------------------------------------------------------------------ the NDK


@pytest.mark.parametrize("api", [24, 33])
@pytest.mark.parametrize("abi", ["arm64-v8a", "armeabi-v7a", "x86_64"])
@pytest.mark.parametrize("way", ["cmake", "ndk", "toolchains"])
def test_building_with_the_ndk(way: str, abi: str, api: int, tmp_path: Path) -> None:
    """CMake's own support for the NDK, the NDK's toolchain file, and ours."""
    ndk = os.environ.get("ANDROID_NDK")
    if ndk is None:
        pytest.skip("ANDROID_NDK names no NDK")
    options = {
        "cmake": [
            "-DCMAKE_SYSTEM_NAME=Android",
            f"-DCMAKE_SYSTEM_VERSION={api}",
            f"-DCMAKE_ANDROID_ARCH_ABI={abi}",
            f"-DCMAKE_ANDROID_NDK={ndk}",
        ],
        "ndk": [
            f"-DCMAKE_TOOLCHAIN_FILE={ndk}/build/cmake/android.toolchain.cmake",
            f"-DANDROID_ABI={abi}",
            f"-DANDROID_PLATFORM=android-{api}",
        ],
        "toolchains": [
            f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/toolchains/android-{abi}.cmake",
            f"-DCMAKE_SYSTEM_VERSION={api}",
        ],
    }[way]
    build = tmp_path / "build"
    subprocess.run(["cmake", "-S", ROOT, "-B", build, "-DNANOLLM_WERROR=ON", *options], check=True)
    subprocess.run(["cmake", "--build", build, "--parallel", str(os.cpu_count())], check=True)
    path = build / "apps/run/nanollm-run"
    needed = {re.sub(r".*\[(.*)\].*", r"\1", line) for line in dynamic(path) if "(NEEDED)" in line}
    assert needed <= {"libc.so", "libm.so", "libdl.so"}
