"""A gRPC server as Python programs have it (grpcio, on its own HTTP/2 in C).

    grpc_server.py PORT [MAX_CONNECTION_AGE_MS]

The service test.Echo speaks bytes; what a call asks for stands in its metadata:

    Unary          answers its message; with x-status, ends with that status instead
    Deadline       answers how many milliseconds are left, or "none"
    ServerStream   answers x-count messages of 1,000 bytes; with x-status, ends with that after them
    ClientStream   answers how many messages and bytes came
    Chat           answers each message with itself
    Slow           answers one message, then waits until the call is given up
    GivenUp        answers how many calls of Slow were given up so far

Metadata that begin with x-echo come back, before the answer and after it.
"""

import signal
import sys
import threading
from concurrent import futures

import grpc

given_up = 0
lock = threading.Lock()


def metadata(context) -> dict[str, str]:
    pairs = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-echo")]
    context.set_trailing_metadata(pairs)
    asked = dict(context.invocation_metadata())
    if "x-status" not in asked:
        context.send_initial_metadata(pairs)
    return asked


def finish(context, asked) -> None:
    if "x-status" in asked:
        pairs = [*context.trailing_metadata(), ("x-detail-bin", bytes([0, 255, 128]))]
        context.set_trailing_metadata(pairs)
        code = next(code for code in grpc.StatusCode if code.value[0] == int(asked["x-status"]))
        context.abort(code, "was asked for: 100 % é\n")


def unary(request, context):
    finish(context, metadata(context))
    return request


def deadline(_request, context):
    left = context.time_remaining()
    # Without a deadline the library counts down from years.
    return b"none" if left is None or left > 1e6 else str(int(left * 1000)).encode()


def server_stream(_request, context):
    asked = metadata(context)
    for n in range(int(asked["x-count"])):
        yield bytes([n % 256]) * 1000
    finish(context, asked)


def client_stream(requests, _context):
    sizes = [len(request) for request in requests]
    return f"{len(sizes)} messages, {sum(sizes)} bytes".encode()


def chat(requests, _context):
    yield from requests


def slow(_request, context):
    gone = threading.Event()

    def give_up():
        global given_up
        with lock:
            given_up += 1
        gone.set()

    # Counted here and not below: what is below need not be reached once the call is gone.
    if not context.add_callback(give_up):
        give_up()
    yield b"begun"
    gone.wait()


def main() -> None:
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Deadline": grpc.unary_unary_rpc_method_handler(deadline),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Slow": grpc.unary_stream_rpc_method_handler(slow),
        "GivenUp": grpc.unary_unary_rpc_method_handler(lambda *_: str(given_up).encode()),
    }
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.http2.min_ping_interval_without_data_ms", 50),
        ("grpc.http2.max_ping_strikes", 0),
    ]
    if len(sys.argv) > 2:
        options += [("grpc.max_connection_age_ms", int(sys.argv[2])), ("grpc.max_connection_age_grace_ms", 5000)]
    server = grpc.server(futures.ThreadPoolExecutor(64), options=options)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", methods)])
    server.add_insecure_port(f"[::]:{sys.argv[1]}")
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    server.wait_for_termination()


main()
