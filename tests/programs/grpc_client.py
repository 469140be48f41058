"""A gRPC client as Python programs have it (grpcio): every kind of call to test.Echo, and what came of it.

    grpc_client.py TARGET          one line for each call, the same lines as node/grpc_client.mjs prints
    grpc_client.py TARGET load N   N calls from eight threads, and how many ended with which status
"""

import collections
import hashlib
import json
import sys
import threading
from concurrent import futures

import grpc

LARGE = bytes(range(256)) * 80_000
ECHO = [("x-echo-ascii", "a b, c"), ("x-echo-twice", "1"), ("x-echo-twice", "2"), ("x-echo-bin", bytes([0, 255, 10]))]
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 100),
    ("grpc.keepalive_timeout_ms", 30000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_time_between_pings_ms", 100),
]


def shown(metadata) -> str:
    values = collections.defaultdict(list)
    for key, value in metadata or ():
        if key.startswith("x-"):
            values[key].append(value.hex() if isinstance(value, bytes) else value)
    return ", ".join(sorted(f"{key}={', '.join(all_of_key)}" for key, all_of_key in values.items()))


def ended(name: str, call) -> None:
    code, details = call.code().value[0], call.details()
    # What libraries say about a call that went well is their own.
    said = json.dumps(details, ensure_ascii=False) if code else "-"
    print(f"{name}: {code} {said} [{shown(call.trailing_metadata())}]")


def digest(data: bytes) -> str:
    return f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()[:12]}"


class Calls:
    def __init__(self, channel: grpc.Channel):
        one = lambda kind, name: getattr(channel, kind)(f"/test.Echo/{name}")
        self.unary = one("unary_unary", "Unary")
        self.deadline = one("unary_unary", "Deadline")
        self.given_up = one("unary_unary", "GivenUp")
        self.missing = one("unary_unary", "Missing")
        self.server_stream = one("unary_stream", "ServerStream")
        self.slow = one("unary_stream", "Slow")
        self.client_stream = one("stream_unary", "ClientStream")
        self.chat = one("stream_stream", "Chat")


def unary(calls: Calls) -> None:
    answer, call = calls.unary.with_call(b"hello", metadata=ECHO, timeout=30)
    print(f"unary: {answer.decode()}")
    print(f"initial: [{shown(call.initial_metadata())}]")
    ended("trailing", call)
    print(f"empty: {len(calls.unary(b'', timeout=30))}")
    print(f"large: {digest(calls.unary(LARGE, timeout=60))}")
    together = [calls.unary.future(str(n).encode(), timeout=60) for n in range(100)]
    print(f"together: {sum(call.result() == str(n).encode() for n, call in enumerate(together))}")


def streams(calls: Calls) -> None:
    call = calls.server_stream(b"", metadata=[("x-count", "200"), *ECHO], timeout=30)
    print(f"server stream: {digest(b''.join(call))}")
    ended("server stream", call)
    answer = calls.client_stream((bytes(10_000) for _ in range(200)), timeout=30)
    print(f"client stream: {answer.decode()}")
    # Each message is sent once the one before it has come back.
    came_back = threading.Semaphore()

    def messages():
        for n in range(50):
            came_back.acquire()
            yield str(n).encode()

    count = 0
    for n, message in enumerate(calls.chat(messages(), timeout=30)):
        assert message == str(n).encode()
        count += 1
        came_back.release()
    print(f"chat: {count}")


def statuses(calls: Calls) -> None:
    for status in range(1, 17):
        call = calls.unary.future(b"x", metadata=[("x-status", str(status)), *ECHO], timeout=30)
        call.exception()
        ended(f"status {status}", call)
    call = calls.server_stream(b"", metadata=[("x-count", "3"), ("x-status", "14")], timeout=30)
    count = 0
    try:
        for _ in call:
            count += 1
    except grpc.RpcError:
        pass
    ended(f"after {count} messages", call)
    call = calls.missing.future(b"x", timeout=30)
    call.exception()
    print(f"missing: {call.code().value[0]}")


def deadlines(calls: Calls) -> None:
    left = int(calls.deadline(b"", timeout=30))
    # The wire's units are coarse, and libraries round up.
    print(f"deadline: {0 < left <= 31_000}")
    print(f"no deadline: {calls.deadline(b'').decode()}")
    call = calls.slow(b"", timeout=1)
    try:
        print(f"slow: {sum(1 for _ in call)}")
    except grpc.RpcError:
        print(f"slow: {call.code().value[0]}")
    call = calls.slow(b"")
    print(f"cancel: {next(call).decode()}")
    call.cancel()
    print(f"cancel: {call.code().value[0]}")
    # The server learns of both; this waits for nothing else.
    for _ in range(3000):
        if calls.given_up(b"") == b"2":
            break
        threading.Event().wait(0.01)
    print(f"given up: {calls.given_up(b'').decode()}")


def load(calls: Calls, count: int) -> None:
    def one(n: int) -> int:
        call = calls.unary.future(str(n).encode(), timeout=30)
        return call.code().value[0] if call.exception() else 0

    with futures.ThreadPoolExecutor(8) as pool:
        print(dict(collections.Counter(pool.map(one, range(count)))))


def main() -> None:
    with grpc.insecure_channel(sys.argv[1], OPTIONS) as channel:
        calls = Calls(channel)
        if sys.argv[2:3] == ["load"]:
            load(calls, int(sys.argv[3]))
            return
        for part in (unary, streams, statuses, deadlines):
            part(calls)


main()
