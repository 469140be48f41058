//! Every key of a line: where it appears, what its value is, and what it means, stated once.
//!
//! Lines are written with these, and `docs/access-log.md` is made from them.

/// What a value is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A string that needs no escape: an address, an identifier, a word of a closed set.
    Word,
    /// A string that somebody else chose: escaped, shortened, left out when it is empty.
    Text,
    /// A number.
    Number,
}

/// Builds the enum and its accessors from the table.
macro_rules! fields {
    ($($variant:ident $key:literal $shape:ident [$($kind:ident)+] $example:literal $about:literal;)+) => {
        /// A key of the access log. See `docs/access-log.md`, which is made from the same table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $(#[doc = $about] $variant,)+ }

        impl Field {
            /// Every key, in the order of a line.
            pub const ALL: &[Field] = &[$(Field::$variant,)+];

            /// The key as it is written.
            pub const fn key(self) -> &'static str {
                match self { $(Field::$variant => $key,)+ }
            }

            /// What its value is.
            pub const fn shape(self) -> Shape {
                match self { $(Field::$variant => Shape::$shape,)+ }
            }

            /// The kinds of lines that have it: `flow`, `exchange`.
            pub const fn kinds(self) -> &'static [&'static str] {
                match self { $(Field::$variant => &[$(stringify!($kind)),+],)+ }
            }

            /// A value that it may have.
            pub const fn example(self) -> &'static str {
                match self { $(Field::$variant => $example,)+ }
            }

            /// What it means, for a person.
            pub const fn about(self) -> &'static str {
                match self { $(Field::$variant => $about,)+ }
            }
        }
    };
}

#[rustfmt::skip]
fields! {
    Ts "ts" Word [flow exchange] "2026-11-21T09:30:00.123Z"
        "When the line was written, which is when the flow or the exchange ended; UTC.";
    Kind "kind" Word [flow exchange] "exchange"
        "`flow`, a captured connection, or `exchange`, an HTTP request and its response.";
    Id "id" Word [flow exchange] "7c1f0a9be2d45e10"
        "Unique in the process.";
    Flow "flow" Word [exchange] "4be09d23f1c07a66"
        "The `id` of the flow that carried it.";
    TraceId "trace_id" Word [flow exchange] "4bf92f3577b34da6a3ce929d0e0e4736"
        "The trace, where it is recorded; `id` is then the span.";
    Peer "peer" Word [flow exchange] "10.1.2.3:40312"
        "The app's end of the connection.";
    Direction "direction" Word [flow exchange] "inbound"
        "`inbound` where a client outside has connected to the app; absent where the app has connected to somebody.";
    Client "client" Text [flow] "spiffe://shop.test/web"
        "Who an inbound client is, by its certificate: its URI, else its DNS names, else the certificate's SHA-256.";
    OriginalDst "original_dst" Word [flow exchange] "10.9.8.7:80"
        "Where the app dialled, if the kernel knew.";
    Destination "destination" Text [flow exchange] "payments"
        "The destination of the configuration whose policy held.";
    Protocol "protocol" Word [flow] "http1"
        "What the flow spoke.";
    Sni "sni" Text [flow] "db.example.com"
        "The TLS server name that the app asked for: its claim.";
    Route "route" Text [exchange] "slow-reports"
        "The route whose policy held, if one matched.";
    Method "method" Text [exchange] "GET"
        "The method.";
    Host "host" Text [flow exchange] "payments.example.com"
        "The Host field, or `:authority`, without user and password: the app's claim. Of a flow, the name for which the app got the address from DNS (docs/dns.md).";
    Path "path" Text [exchange] "/v1/charges"
        "The path without the query, which may hold a secret; at most 256 bytes.";
    RequestId "request_id" Text [exchange] "f3c9d1f2-6f7e-4f0e-9d55-0f6e0b1f7f3b"
        "The `x-request-id` that went upstream.";
    Status "status" Number [exchange] "200"
        "The status that the app got; absent where it got none.";
    GrpcStatus "grpc_status" Text [exchange] "unavailable"
        "The status of a gRPC call.";
    Attempts "attempts" Number [flow exchange] "2"
        "Tries: of the exchange, or to connect a flow that is not HTTP.";
    Endpoint "endpoint" Word [flow exchange] "10.9.8.7:80"
        "Where the last try went.";
    Tls "tls" Word [flow exchange] "1.3"
        "The version of TLS that was agreed with the server of the last try; absent where the connection is plain, or the app's own TLS.";
    TlsHandshake "tls_handshake" Word [flow exchange] "resumed"
        "How that was agreed when the connection was made: `full`, with certificates, or `resumed`.";
    ServerName "server_name" Text [flow exchange] "payments.example.com"
        "Whom the server was asked to be, and has shown to be unless `tls` has `spiffe` or verifies nothing.";
    BytesFromApp "bytes_from_app" Number [flow exchange] "512"
        "Bytes relayed from the app: head and body of a request, or a flow's that belong to no exchange.";
    BytesToApp "bytes_to_app" Number [flow exchange] "2048"
        "Bytes sent to the app, counted alike.";
    FirstByteMs "first_byte_ms" Number [exchange] "11.207"
        "From when the last try began to send its request to its response head, in milliseconds; absent where none came.";
    DurationMs "duration_ms" Number [flow exchange] "12.034"
        "From the end of the request head, or from accept, to the end, in milliseconds.";
    Retries "retries" Text [exchange] "connect_refused:nothing_sent"
        "Each try that was repeated: why it failed, and the proof that repeating it was safe.";
    RetryRefused "retry_refused" Text [exchange] "budget"
        "Why the last failure was not repeated.";
    Cause "cause" Word [flow exchange] "connect_refused"
        "Why it did not end well, a word of [causes.md](causes.md); absent where it ended well.";
    Who "who" Word [flow exchange] "upstream"
        "Who ended it: `app`, `upstream`, `dragoman`, `network`. With `cause`.";
    Detail "detail" Text [flow exchange] "10.9.8.7:80: connection refused"
        "What the system or a parser said, for a person. With `cause`.";
}
