#!/usr/bin/env python3
"""Makes fuzz/seeds anew from the test vectors of the repository and from what the fuzzer has learnt.

    fuzz/make_seeds.py [TARGET...]

The literals of the tests are taken out of their source text; of fuzz/corpus, what reaches something that
they do not is added, shortest first, up to a few KiB.
"""

import itertools
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import runner

FUZZ = Path(__file__).resolve().parent
ROOT = FUZZ.parent
WIRE = ROOT / "crates" / "wire" / "tests"
CONFIG = ROOT / "crates" / "config"
LITERAL = re.compile(r'include_bytes!\("(?P<file>[^"]+)"\)|(?P<comment>//[^\n]*)|b?"(?P<text>(?:[^"\\]|\\.)*)"', re.DOTALL)
ESCAPE = re.compile(r"\\(?:x(..)|u\{(.+?)\}|(\n\s*)|(.))", re.DOTALL)
SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
REQUEST = b"POST / HTTP/1.1\r\nHost: a.test\r\n%s\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\n%s\r\n"
LONGEST_SEED_BYTES = 4096
# In all, for each target.
LEARNT_BYTES = 2 * 1024


def main() -> int:
    targets = sys.argv[1:] or runner.TARGETS
    binaries = runner.build(targets)
    for target in targets:
        vectors = {vector for vector in VECTORS[target]() if 0 < len(vector) <= LONGEST_SEED_BYTES}
        learnt = merge(binaries / target, vectors, FUZZ / "corpus" / target)
        runner.write_seeds(target, vectors | learnt)
        size = runner.seed_file(target).stat().st_size
        print(f"{target}: {len(vectors)} from the tests, {len(learnt)} learnt, {size} bytes")
    return 0


def merge(binary: Path, vectors: set[bytes], corpus: Path) -> set[bytes]:
    """The shortest inputs of `corpus` that reach something that `vectors` do not."""
    with tempfile.TemporaryDirectory() as scratch:
        known = Path(scratch, "known")
        runner.unpack(vectors, known)
        corpus.mkdir(parents=True, exist_ok=True)
        command = [binary, "-merge=1", f"-artifact_prefix={scratch}/", known, corpus]
        run = subprocess.run(command, cwd=FUZZ, capture_output=True, text=True)
        if run.returncode:
            sys.exit(f"{binary.name}: merging failed\n{run.stderr}")
        learnt = sorted({path.read_bytes() for path in known.iterdir()} - vectors, key=lambda seed: (len(seed), seed))
    sizes = itertools.accumulate(map(len, learnt))
    return {seed for seed, size in zip(learnt, sizes) if size <= LEARNT_BYTES}


def literals(*paths: Path) -> Iterator[bytes]:
    for path in paths:
        for found in LITERAL.finditer(path.read_text()):
            if found["file"]:
                yield (path.parent / found["file"]).read_bytes()
            elif found["text"] is not None:
                yield unescape(found["text"], found[0].startswith("b"))


def unescape(text: str, is_bytes: bool) -> bytes:
    def plain(escape: re.Match) -> str:
        byte, point, newline, simple = escape.groups()
        if newline is not None:
            return ""
        return SIMPLE.get(simple, simple) if simple else chr(int(byte or point, 16))

    plain_text = ESCAPE.sub(plain, text)
    return plain_text.encode("latin-1" if is_bytes else "utf-8", "replace")


def heads(wrapped: bytes, first: bytes) -> Iterator[bytes]:
    """Whole heads, and the field lines of the smuggling vectors in a head that is right otherwise."""
    for vector in literals(WIRE / "http1_head.rs", WIRE / "http1_smuggling.rs", WIRE / "sniff.rs"):
        if first in vector:
            yield vector
        elif vector.endswith(b"\r\n"):
            yield wrapped % vector


def hellos() -> Iterator[bytes]:
    for vector in literals(WIRE / "client_hello.rs", WIRE / "sniff.rs"):
        yield vector
        if vector.startswith(b"\x16\x03"):
            payload = vector[5:]
            yield b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in pieces(payload, 100))


def pieces(payload: bytes, size: int) -> Iterator[bytes]:
    return (payload[at : at + size] for at in range(0, len(payload), size))


def files() -> Iterator[bytes]:
    for folder in (ROOT / "deploy", CONFIG / "tests"):
        yield from (path.read_bytes() for path in folder.rglob("*.toml"))
    # Files that are merged, as the target parts them.
    for folder in (path for path in (CONFIG / "tests" / "golden").iterdir() if path.is_dir()):
        yield b"\n#---\n".join(path.read_bytes() for path in sorted(folder.iterdir()))
    for vector in literals(*(CONFIG / "tests").glob("*.rs")):
        if b"=" in vector or vector.startswith(b"["):
            yield vector


def manifests() -> Iterator[bytes]:
    tests = ROOT / "crates" / "kube" / "tests"
    yield from (path.read_bytes() for path in tests.rglob("*") if path.suffix in (".yaml", ".json"))


def dns_messages() -> Iterator[bytes]:
    """The captured messages, and answers with an alias, a pointer and an OPT record, as they are and cut short."""
    question = b"\x01a\x04test\x00\x00\x01\x00\x01"
    alias = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01b\xc0\x0e"
    address = b"\xc0\x24\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\xc0\x00\x02\x01"
    opt = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00"
    whole = b"\x00\x07\x81\x80\x00\x01\x00\x02\x00\x00\x00\x01" + question + alias + address + opt
    yield from (whole[:end] for end in range(12, len(whole) + 1, 6))
    yield whole
    yield from (vector for vector in literals(WIRE / "dns.rs") if len(vector) > 12 and b"\x00" in vector)


VECTORS = {
    "dns_message": dns_messages,
    "sniff_client": lambda: literals(WIRE / "sniff.rs", WIRE / "http1_smuggling.rs", WIRE / "postgres.rs"),
    "sniff_server": lambda: literals(WIRE / "sniff.rs"),
    "client_hello": hellos,
    "postgres_startup": lambda: literals(WIRE / "postgres.rs", WIRE / "sniff.rs"),
    "request_head": lambda: heads(REQUEST, b" HTTP/1"),
    "response_head": lambda: heads(RESPONSE, b"HTTP/1.1 "),
    "chunked_body": lambda: literals(WIRE / "http1_body.rs"),
    "trace_context": lambda: literals(WIRE / "trace.rs"),
    "config_toml": files,
    "manifest": manifests,
    "retry_after": lambda: literals(ROOT / "crates" / "policy" / "src" / "retry_after.rs"),
}


if __name__ == "__main__":
    sys.exit(main())
