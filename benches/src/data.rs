//! Inputs as real programs send them.

/// The request of a service that calls another one.
pub(crate) const REQUEST: &[u8] = b"GET /v1/charges/ch_3Nq?expand=customer&limit=20 HTTP/1.1\r\n\
    Host: payments.internal.example\r\nUser-Agent: python-requests/2.34.2\r\nAccept-Encoding: gzip, deflate\r\n\
    Accept: application/json\r\nConnection: keep-alive\r\nAuthorization: Bearer 0123456789abcdef0123456789abcdef\r\n\
    Cookie: session=0123456789abcdef; theme=dark\r\nX-Request-ID: 2f1c9e6e-5c0e-4d6c-9a58-6a2f9b1d7c11\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";

/// What a server answers to it.
pub(crate) const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.27.3\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 1024\r\nConnection: keep-alive\r\nCache-Control: no-store\r\n\
    Vary: Accept-Encoding\r\nX-Frame-Options: DENY\r\n\r\n";

/// First bytes of servers that speak before their clients do.
pub(crate) const GREETINGS: [&[u8]; 4] = [
    b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    b"220 mail.example ESMTP Postfix\r\n",
    b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh\x00\xff\xf7\xff\x02\x00\xff\xdf\x15\x00\x00\x00",
    b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64",
];

/// A ClientHello with a server name, ALPN and a key share among its extensions.
pub(crate) fn client_hello() -> Vec<u8> {
    let name = b"payments.internal.example";
    let mut server_name = vec![0, name.len() as u8 + 3, 0, 0, name.len() as u8];
    server_name.extend_from_slice(name);
    let extensions: [(u16, Vec<u8>); 5] = [
        (0x000a, vec![0, 4, 0, 0x1d, 0, 0x17]),
        (0x0000, server_name),
        (0x0010, b"\x00\x0c\x02h2\x08http/1.1".to_vec()),
        (0x002b, vec![2, 3, 4]),
        (0x0033, [&[0, 36, 0, 0x1d, 0, 32][..], &[7; 32]].concat()),
    ];
    let extensions: Vec<u8> =
        extensions.into_iter().flat_map(|(kind, body)| with_u16(&kind.to_be_bytes(), &body)).collect();
    let mut hello = vec![3, 3];
    hello.extend_from_slice(&[9; 32]);
    hello.push(0);
    hello.extend(with_u16(&[], &[0x13, 0x01, 0x13, 0x02, 0x13, 0x03]));
    hello.extend_from_slice(&[1, 0]);
    hello.extend(with_u16(&[], &extensions));
    let handshake = [&[1, 0][..], &(hello.len() as u16).to_be_bytes(), &hello].concat();
    with_u16(&[22, 3, 1], &handshake)
}

/// What stands before, the length of the body in two bytes, the body.
fn with_u16(before: &[u8], body: &[u8]) -> Vec<u8> {
    [before, &(body.len() as u16).to_be_bytes(), body].concat()
}

/// A body of 16 KiB in chunks of 1 KiB.
pub(crate) fn chunked_body() -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..16 {
        body.extend_from_slice(b"400\r\n");
        body.extend_from_slice(&[b'x'; 1024]);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}
