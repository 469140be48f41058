"""A client that signs requests with AWS Signature Version 4, and a server that checks the signature over what arrived.

    sigv4.py serve PORT      answers 200 to what is signed well, else 403
    sigv4.py ask URL         sends signed requests and prints each with its status

Whatever a relay tidies up in a signed field, the path or the query makes the signature wrong. The algorithm is that
of the "Signature Version 4 signing process" in the AWS General Reference, with paths as S3 takes them: not encoded twice.
"""

import datetime
import hashlib
import hmac
import http.client
import re
import socketserver
import sys

KEY_ID, SECRET, REGION, SERVICE = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "s3"
BODY = b"signed\0body\r\n"

# Method, target, further fields (all of them signed), body.
REQUESTS = [
    ("GET", "/plain", [], b""),
    ("GET", "/a%2Fb/../c%20d//e;v=1/%E2%82%AC", [], b""),
    ("GET", "/list?prefix=a%2Fb&marker=&max-keys=5&list-type=2&delimiter=%2F", [], b""),
    ("GET", "/fields", [("X-Amz-Meta-Odd", "  two  inside\tand  out "), ("x-amz-META-lower", "1")], b""),
    ("GET", "/twice", [("X-Amz-Meta-A", "1"), ("X-Between", "0"), ("X-Amz-Meta-A", "2")], b""),
    ("PUT", "/stored", [("Content-Type", "text/plain")], BODY),
    ("DELETE", "/gone?versionId=3%2B4", [], b""),
]


def main() -> None:
    action, where = sys.argv[1:]
    if action == "serve":
        socketserver.ThreadingTCPServer.allow_reuse_address = True
        socketserver.ThreadingTCPServer(("", int(where)), Verifier).serve_forever()
    else:
        ask(where)


def ask(url: str) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    for method, target, fields, body in REQUESTS:
        print(method, target, send(connection, method, target, target, fields, body))
    # The server does look: another path than the one that was signed.
    print("forged", send(connection, "GET", "/signed", "/sent", [], b""))


def send(connection, method: str, signed: str, target: str, fields: list, body: bytes) -> int:
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    fields = [("Host", connection.host), ("X-Amz-Date", now), ("X-Amz-Content-SHA256", digest), *fields]
    names = ";".join(sorted({name.lower() for name, _ in fields}))
    scope = f"{now[:8]}/{REGION}/{SERVICE}/aws4_request"
    proof = signature(method, signed, fields, names, digest, now, scope)
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in fields:
        connection.putheader(name, value)
    connection.putheader(
        "Authorization",
        f"AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={names}, Signature={proof}",
    )
    if body:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body or None)
    response = connection.getresponse()
    response.read()
    return response.status


def signature(method: str, target: str, fields: list, names: str, digest: str, now: str, scope: str) -> str:
    path, _, query = target.partition("?")
    parameters = sorted(p if "=" in p else p + "=" for p in query.split("&") if p)
    values = {name: [] for name in names.split(";")}
    for name, value in fields:
        if name.lower() in values:
            values[name.lower()].append(re.sub(" +", " ", value.strip()))
    canonical_fields = "".join(f"{name}:{','.join(values[name])}\n" for name in values)
    canonical = "\n".join([method, path, "&".join(parameters), canonical_fields, names, digest])
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + SECRET.encode()
    for part in [*scope.split("/"), text]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


class Verifier(socketserver.StreamRequestHandler):
    """Reads the bytes itself: a library would already have tidied them up."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            method, target, _ = line.decode("latin-1").split(" ")
            fields = []
            while (field := self.rfile.readline().decode("utf-8")) != "\r\n":
                name, _, value = field.rstrip("\r\n").partition(":")
                fields.append((name, value))
            known = {name.lower(): value.strip() for name, value in fields}
            body = self.rfile.read(int(known.get("content-length", 0)))
            status = "200 OK" if self.is_signed(method, target, fields, known, body) else "403 Forbidden"
            self.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    def is_signed(self, method: str, target: str, fields: list, known: dict, body: bytes) -> bool:
        given = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/([^,]+), *SignedHeaders=([^,]+), *Signature=(\w+)",
            known.get("authorization", ""),
        )
        digest = hashlib.sha256(body).hexdigest()
        if not given or given[1] != KEY_ID or known.get("x-amz-content-sha256", digest) != digest:
            return False
        proof = signature(method, target, fields, given[3], digest, known["x-amz-date"], given[2])
        return hmac.compare_digest(proof, given[4])


if __name__ == "__main__":
    main()
