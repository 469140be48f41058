#!/usr/bin/env python3
"""Builds the fuzz targets with the installed stable toolchain and runs each for a minute.

    fuzz/runner.py [TARGET...]        all targets, or those named
    FUZZ_SECONDS=600 fuzz/runner.py   ten minutes each
    FUZZ_JOBS=1 fuzz/runner.py        one at a time; without it, as many at once as there are cores

What LLVM needs for coverage are stable flags of rustc, and libFuzzer comes with the crate libfuzzer-sys,
so neither nightly nor cargo-fuzz is needed: only a C++ compiler. There is no address sanitizer, and
without unsafe code there is nothing for it to find.

Each target starts from its file in fuzz/seeds (an input per line, escaped as in a Rust or Python byte
string; fuzz/make_seeds.py writes it) and keeps what it learns in fuzz/corpus. An input that breaks an
invariant is put in fuzz/artifacts, and the exit code is 1.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
TARGETS = sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs"))
# Longer inputs repeat what shorter ones have; the limits beyond have unit tests.
LONGEST_INPUT_BYTES = 4096
STORY_LINES = 40
LEVEL = "-sanitizer-coverage-level=4"
COVERAGE = [LEVEL, *(f"-sanitizer-coverage-{kind}" for kind in ("inline-8bit-counters", "pc-table", "trace-compares"))]


def main() -> int:
    targets = sys.argv[1:] or TARGETS
    if unknown := sorted(set(targets) - set(TARGETS)):
        sys.exit(f"fuzz: no target {', '.join(unknown)}; there are: {', '.join(TARGETS)}")
    seconds = number("FUZZ_SECONDS", 60)
    jobs = number("FUZZ_JOBS", os.cpu_count() or 1)
    binaries = build(targets)
    print(f"fuzz: {len(targets)} targets, {seconds} s each, {jobs} at once", flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda target: fuzz(target, binaries / target, seconds), targets))
    print(f"\n{'target':<18}{'runs':>12}{'runs/s':>10}{'edges':>8}{'corpus':>8}  result")
    for result in results:
        print("{target:<18}{runs:>12,}{rate:>10,}{edges:>8}{corpus:>8}  {verdict}".format(**result))
    failed = [result for result in results if result["verdict"] != "ok"]
    for result in failed:
        print(f"\n{result['target']}: {result['verdict']}\n{result['story']}", file=sys.stderr)
    return 1 if failed else 0


def number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) == 0:
        sys.exit(f"fuzz: {name}={text}: should be a whole number above 0")
    return int(text)


def build(targets: list[str]) -> Path:
    """The folder of the binaries."""
    require_cxx()
    host = re.search(r"^host: (.+)$", output("rustc", "-vV"), re.MULTILINE).group(1)
    flags = ["--cfg=fuzzing", "-Cpasses=sancov-module", *(f"-Cllvm-args={flag}" for flag in COVERAGE)]
    folder = Path(os.environ.get("CARGO_TARGET_DIR") or FUZZ / "target").resolve()
    environment = os.environ | {"CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags), "CARGO_TARGET_DIR": str(folder)}
    # With --target the flags do not reach build scripts, which have no libFuzzer to link with.
    command = ["cargo", "build", "--release", "--target", host]
    command += [word for target in targets for word in ("--bin", target)]
    if code := subprocess.run(command, cwd=FUZZ, env=environment).returncode:
        sys.exit(code)
    return folder / host / "release"


def require_cxx() -> None:
    if shutil.which(os.environ.get("CXX") or "c++"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        sys.exit("fuzz: no C++ compiler for libFuzzer: install the package g++")
    print("fuzz: installing g++", flush=True)
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "-q", "update"], env=quiet, check=True)
    subprocess.run(["apt-get", "-qq", "install", "--yes", "--no-install-recommends", "g++"], env=quiet, check=True)


def fuzz(target: str, binary: Path, seconds: int) -> dict:
    corpus, artifacts = FUZZ / "corpus" / target, FUZZ / "artifacts" / target
    artifacts.mkdir(parents=True, exist_ok=True)
    unpack(read_seeds(target), corpus)
    command = [binary, f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT_BYTES}", "-timeout=10"]
    command += ["-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={artifacts}/", corpus]
    print(f"{target}: started", flush=True)
    run = subprocess.run(command, cwd=FUZZ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
    result = summary(run.stdout) | {"target": target, "corpus": len(list(corpus.iterdir()))}
    if run.returncode == 0:
        result["verdict"] = "ok"
    else:
        result |= {"verdict": "FAILED", "story": story(run.stdout, binary)}
    print(f"{target}: {result['verdict']} after {result['runs']:,} runs", flush=True)
    return result


def seed_file(target: str) -> Path:
    return FUZZ / "seeds" / f"{target}.txt"


def read_seeds(target: str) -> set[bytes]:
    lines = seed_file(target).read_text("ascii").split("\n")[:-1]
    return {line.encode("ascii").decode("unicode_escape").encode("latin-1") for line in lines}


def write_seeds(target: str, seeds: set[bytes]) -> None:
    lines = [seed.decode("latin-1").encode("unicode_escape").decode("ascii") + "\n" for seed in sorted(seeds)]
    seed_file(target).write_text("".join(lines), "ascii")


def unpack(seeds: set[bytes], folder: Path) -> None:
    """A file for each, with the name that libFuzzer itself would give it."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def story(log: str, binary: Path) -> str:
    """The panic, or else what libFuzzer said last, and how to see it again."""
    panic = re.search(r"panicked at .*?(?=\nnote: |\nstack backtrace:|\n==\d+==)", log, re.DOTALL)
    lines = (panic.group() if panic else log).splitlines()
    told = lines if len(lines) <= STORY_LINES else [*lines[: STORY_LINES // 2], "...", *lines[-STORY_LINES // 2 :]]
    found = re.search(r"written to (\S+)", log)
    return "\n".join([*told, f"again: {binary} {found.group(1)}" if found else "no input was written"])


def summary(log: str) -> dict:
    """What libFuzzer said last."""
    def last(pattern: str) -> int:
        found = re.findall(pattern, log)
        return int(found[-1]) if found else 0

    return {
        "runs": last(r"number_of_executed_units: +(\d+)") or last(r"^#(\d+)"),
        "rate": last(r"average_exec_per_sec: +(\d+)"),
        "edges": last(r" cov: (\d+)"),
    }


def output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
