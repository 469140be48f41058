"""Real programs that the soak runs through dragoman, beside its own load, and what each must say."""

import re
import subprocess
import sys
import threading

from world import PYTHON, ROOT, World

GOOD = "198.18.0.2"
PROGRAMS = ROOT / "tests/programs"
SECONDS = 120


def h2load_says(count: int):
    return lambda out: f"{count} succeeded, 0 failed, 0 errored, 0 timeout" in out


def ab_says(out: str) -> bool:
    return re.search(r"Failed requests: +0$", out, re.MULTILINE) is not None and "Non-2xx" not in out


def redis(requests: int, clients: int, *more: str) -> list:
    return ["redis-benchmark", "-q", "-h", GOOD, "-n", str(requests), "-c", str(clients), *more]


def pings_say(out: str) -> bool:
    return "PING_MBULK: " in out


def websockets_says(out: str) -> bool:
    return "closed by 1000" in out


def mixed() -> list:
    """A few of each kind, one after the other: name, command, and whether what it printed is right."""
    streams = f"http://{GOOD}:8082/file"
    grpc = [PYTHON, PROGRAMS / "grpc_client.py", f"{GOOD}:8083", "load", "200"]
    return [
        ("h2load", ["h2load", "-n400", "-c4", "-m8", streams], h2load_says(400)),
        # Connections with many streams each that vanish in the middle.
        ("h2load, killed", ["timeout", "-s", "KILL", "0.5", "h2load", "-D9", "-c4", "-m10", streams], None),
        ("grpcio", grpc, lambda out: out == "{0: 200}\n"),
        ("websockets", [PYTHON, PROGRAMS / "websocket.py", "ask", f"ws://{GOOD}:8084"], websockets_says),
        ("ab", ["ab", "-q", "-n300", "-c8", f"http://{GOOD}:8085/"], ab_says),
        ("ab -k", ["ab", "-q", "-k", "-n1000", "-c8", f"http://{GOOD}:8085/"], ab_says),
        ("redis-benchmark", redis(2000, 20, "-t", "set,get"), lambda out: "GET: " in out),
        ("redis-benchmark -k 0", redis(300, 8, "-k", "0", "-t", "ping_mbulk"), pings_say),
    ]


def bulk() -> list:
    """As many exchanges and flows as there can be."""
    return [
        ("h2load --h1", ["h2load", "--h1", "-n40000", "-c50", f"http://{GOOD}:8085/"], h2load_says(40_000)),
        ("h2load", ["h2load", "-n20000", "-c8", "-m16", f"http://{GOOD}:8082/small"], h2load_says(20_000)),
        ("ab", ["ab", "-q", "-n4000", "-c20", f"http://{GOOD}:8085/"], ab_says),
        ("redis-benchmark -k 0", redis(2000, 20, "-k", "0", "-t", "ping_mbulk"), pings_say),
    ]


class Programs(threading.Thread):
    """Runs the programs in turn until it is told to stop. What went wrong is kept."""

    def __init__(self, world: World, programs: list):
        super().__init__(daemon=True)
        self.world, self.programs = world, programs
        self.runs, self.wrong = {}, []
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            for name, command, is_right in self.programs:
                if not self.stopped.wait(0.2):
                    self.once(name, command, is_right)

    def once(self, name: str, command: list, is_right) -> None:
        self.runs[name] = self.runs.get(name, 0) + 1
        try:
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            run = subprocess.run(self.world.inside("app", *command), **streams, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.wrong.append(f"{name}: hung for {SECONDS} s")
            return
        if is_right and not is_right(run.stdout):
            self.wrong.append(f"{name}: exit code {run.returncode}: {run.stdout[-600:].strip()}")


class Load:
    """The soak's own load, a process in the app's namespace."""

    def __init__(self, world: World, workers: int, seconds: float, seed: int):
        command = world.inside("app", sys.executable, ROOT / "soak/load.py", workers, seconds, seed)
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, **streams, text=True, start_new_session=True)
        world.processes.append(self.process)

    def stop(self) -> str:
        """Has it finish what it is doing, and returns what it counted."""
        self.process.terminate()
        out, errors = self.process.communicate(timeout=2 * SECONDS)
        if self.process.returncode:
            raise subprocess.CalledProcessError(self.process.returncode, "load.py", out, errors)
        return out
