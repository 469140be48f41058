"""Where the soak happens: two network namespaces with servers, dragoman and its rules."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = f"dragoman-soak-{os.getpid()}"
PROXY_ID = 1337
PYTHON = ROOT / "target/tests-venv/bin/python"

# Deadlines short enough that each is met often, and idle connections that are soon closed. Two texts, so that there is
# something to reload; what differs between them is a destination of its own.
POLICY = """
[control]
socket = "{control}"

[log]
level = "error"
access_file = "{access}"

[destination.good]
cidrs = ["198.18.0.2/32"]
pool = {{ idle = "3s" }}

[destination.bad]
cidrs = ["198.18.0.3/32"]
pool = {{ idle = "3s" }}
try_timeout = "300ms"
timeout = "2s"
breaker = {{ failures = 20, open = "500ms" }}
retry = {{ unprocessed_statuses = [503] }}

[destination.black-hole]
cidrs = ["198.18.0.5/32"]
connect_timeout = "300ms"
breaker = {{ failures = {failures}, open = "1s" }}
"""

# Sockets and entries of connection tracking that are done are gone within seconds, so that the end can be compared with
# the start; and a source port may be taken again, as so many flows in so short a time need it.
SETTINGS = {
    "net.ipv4.ip_local_port_range": "10000 65000",
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.tcp_fin_timeout": "5",
    "net.core.somaxconn": "8192",
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait": "2",
    "net.netfilter.nf_conntrack_tcp_timeout_close": "2",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait": "5",
    "net.netfilter.nf_conntrack_tcp_timeout_last_ack": "5",
    "net.netfilter.nf_conntrack_tcp_timeout_fin_wait": "5",
    "net.netfilter.nf_conntrack_tcp_timeout_syn_sent": "5",
}


class Trouble(Exception):
    """The soak cannot go on."""


class World:
    def __init__(self, scratch: Path, binaries: Path):
        self.scratch, self.binaries = scratch, binaries
        self.processes = []
        self.config = scratch / "dragoman.toml"
        # dragoman's own user makes its socket and its log here.
        self.own = scratch / "own"
        self.own.mkdir()
        shutil.chown(self.own, PROXY_ID, PROXY_ID)
        self.control, self.access = self.own / "control.sock", self.own / "access.log"

    def build(self) -> None:
        """Makes the namespaces, and starts servers, dragoman and the capture."""
        self.netns("up")
        for namespace in ("app", "servers"):
            for key, value in SETTINGS.items():
                subprocess.run(self.inside(namespace, "sysctl", "-qw", f"{key}={value}"), check=True)
        drop = "table inet soak { chain input { type filter hook input priority 0; ip daddr 198.18.0.5 drop; }; }"
        subprocess.run(self.inside("servers", "nft", drop), check=True)
        (self.scratch / "file").write_bytes(bytes(20_000))
        programs = ROOT / "tests/programs"
        self.serve(81, sys.executable, ROOT / "soak/origin.py")
        self.serve(8082, "nghttpd", "--no-tls", "-d", self.scratch, 8082)
        self.serve(8083, PYTHON, programs / "grpc_server.py", 8083, 2000)
        self.serve(8084, PYTHON, programs / "websocket.py", "serve", 8084)
        self.serve(6379, "redis-server", "--save", "", "--appendonly", "no", "--protected-mode", "no", "--dir", self.scratch)
        self.serve(8085, "nginx", "-e", "stderr", "-c", self.nginx())
        self.configure(0)
        # The policy of the benchmarks, where dragoman's own user may read it, and the soak's own beside it.
        normal = shutil.copy(ROOT / "deploy/policies/normal.toml", self.scratch)
        files = ["--config", normal, "--config", self.config]
        self.dragoman = self.start("app", self.binaries / "dragoman", "proxy", *files, log="dragoman.log")
        self.wait_for("dragoman to be ready", lambda: self.alive(self.dragoman) and b"ready" in self.ask("/ready"))
        subprocess.run(self.inside("app", self.binaries / "dragoman-init"), check=True, stdout=subprocess.DEVNULL)

    def nginx(self) -> Path:
        path = self.scratch / "nginx.conf"
        kinds = ("proxy", "client_body", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {self.scratch}/{kind};" for kind in kinds)
        path.write_text(
            f"daemon off; worker_processes 1; pid {self.scratch}/nginx.pid; error_log stderr crit;"
            f"events {{ worker_connections 8000; }} http {{ access_log off; keepalive_requests 1000000000; {temporary}"
            "server { listen 8085 backlog=8192; default_type text/plain;"
            f' location / {{ return 200 "{"x" * 1024}"; }} }} }}'
        )
        return path

    def configure(self, variant: int) -> None:
        """Writes one of the two configurations whole, as a ConfigMap's would come."""
        text = POLICY.format(control=self.control, access=self.access, failures=50 + variant)
        if variant:
            text += '\n[destination.sometimes]\ncidrs = ["198.18.0.2/32"]\nports = [7000]\n'
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.rename(self.config)

    def destinations(self) -> set:
        """The names of all destinations that are ever configured."""
        return {"default", "good", "bad", "black-hole", "sometimes"}

    # Processes.

    def inside(self, namespace: str, *command) -> list:
        return ["ip", "netns", "exec", f"{NAME}-{namespace}", *map(str, command)]

    def netns(self, command: str) -> None:
        subprocess.run([ROOT / "scripts/netns", command], check=True, env=os.environ | {"NETNS": NAME})

    def start(self, namespace: str, *command, log: str) -> subprocess.Popen:
        output = (self.scratch / log).open("ab")
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        process = subprocess.Popen(self.inside(namespace, *command), **streams, start_new_session=True)
        self.processes.append(process)
        return process

    def serve(self, port: int, *command) -> None:
        """Starts a server and waits until it listens."""
        process = self.start("servers", *command, log=f"server-{port}.log")
        listens = self.inside("servers", "ss", "-Hltn", f"sport = :{port}")
        self.wait_for(
            f"a server on port {port}",
            lambda: self.alive(process) and subprocess.run(listens, capture_output=True, check=True).stdout,
        )

    def alive(self, process: subprocess.Popen) -> bool:
        if process.poll() is None:
            return True
        text = "\n".join(f"{path.name}: {path.read_text()[-1000:]}" for path in self.scratch.glob("*.log"))
        raise Trouble(f"{process.args[4]} has ended with {process.returncode}\n{text}")

    def wait_for(self, what: str, condition, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise Trouble(f"waited {seconds:.0f} s in vain for {what}")
            time.sleep(0.05)

    def ask(self, path: str) -> bytes:
        """What dragoman's control surface says; empty while there is none."""
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(20)
            connection.sock.connect(str(self.control))
            connection.request("GET", path)
            return connection.getresponse().read()
        except OSError:
            return b""
        finally:
            connection.close()

    def signal(self, number: signal.Signals) -> None:
        self.dragoman.send_signal(number)

    def end(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        self.netns("down")
        for process in self.processes:
            process.wait()
