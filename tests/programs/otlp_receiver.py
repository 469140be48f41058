"""A receiver of OTLP/HTTP traces that reads them with the official messages and writes each span as a line.

    otlp_receiver.py PORT SPANS [ANSWERS]

ANSWERS is a file, read again for each request: the first line is taken off and says how to answer (a
status, optionally with a Retry-After in seconds, as "503 1"; "stall" for silence until the file changes;
"partial N" to reject N spans). Without lines the answer is 200.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


def value(any_value):
    kind = any_value.WhichOneof("value")
    return getattr(any_value, kind)


def attributes(pairs):
    known(pairs)
    found = {pair.key: value(pair.value) for pair in pairs}
    assert len(found) == len(pairs), f"an attribute is there twice: {[pair.key for pair in pairs]}"
    return found


def known(messages):
    for message in messages:
        assert len(UnknownFieldSet(message)) == 0, f"a field that the protocol does not have: {message}"


def spans(request):
    """Each span of a request as a plain table."""
    known([request])
    for resource_spans in request.resource_spans:
        known([resource_spans, resource_spans.resource])
        for scope_spans in resource_spans.scope_spans:
            known([scope_spans, scope_spans.scope])
            known(scope_spans.spans)
            for span in scope_spans.spans:
                assert len(span.trace_id) == 16 and any(span.trace_id), span
                assert len(span.span_id) == 8 and any(span.span_id), span
                assert len(span.parent_span_id) in (0, 8), span
                yield {
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": span.kind,
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "status": span.status.code,
                    "message": span.status.message,
                    "flags": span.flags,
                    "attributes": attributes(span.attributes),
                    "resource": attributes(resource_spans.resource.attributes),
                    "scope": scope_spans.scope.name,
                }


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lock = threading.Lock()

    def do_POST(self):
        assert self.path == "/v1/traces", self.path
        assert self.headers["content-type"] == "application/x-protobuf", self.headers
        body = self.rfile.read(int(self.headers["content-length"]))
        request = ExportTraceServiceRequest.FromString(body)
        answer = next_answer()
        if answer == ["stall"]:
            return self.stall()
        if answer[0] in ("200", "partial"):
            with self.lock, open(SPANS, "a", encoding="utf-8") as out:
                for span in spans(request):
                    out.write(json.dumps(span | {"key": self.headers["x-key"]}) + "\n")
        response = ExportTraceServiceResponse()
        if answer[0] == "partial":
            response.partial_success.rejected_spans = int(answer[1])
            response.partial_success.error_message = "too many"
        body = response.SerializeToString()
        self.send_response(200 if answer[0] == "partial" else int(answer[0]))
        if answer[0] != "partial" and len(answer) > 1:
            self.send_header("retry-after", answer[1])
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stall(self):
        """Silence, for as long as the first line says so."""
        while first_answer() == ["stall"]:
            time.sleep(0.05)
        self.close_connection = True

    def log_message(self, *_):
        pass


def first_answer():
    if not ANSWERS or not os.path.exists(ANSWERS):
        return ["200"]
    with open(ANSWERS, encoding="utf-8") as answers:
        lines = answers.read().splitlines()
    return lines[0].split() if lines else ["200"]


def next_answer():
    with Receiver.lock:
        first = first_answer()
        if ANSWERS and first != ["200"] and first != ["stall"]:
            with open(ANSWERS, encoding="utf-8") as answers:
                rest = answers.read().splitlines()[1:]
            with open(ANSWERS, "w", encoding="utf-8") as answers:
                answers.write("".join(line + "\n" for line in rest))
        return first


SPANS = sys.argv[2]
ANSWERS = sys.argv[3] if len(sys.argv) > 3 else None
ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer(("", int(sys.argv[1])), Receiver).serve_forever()
