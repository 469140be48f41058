//! The files as they are written: each table, each key, its type, default and meaning, stated once.
//!
//! The reference page and the JSON Schema are this file in other forms. Nothing here knows what is contradictory;
//! that is for [`crate::resolve`] to find.
//!
//! To add a key:
//!
//! 1. Write it here as `/// meaning`, `name: Type = default;`, or without a default if its absence means something.
//!    The types are in [`crate::value`]; what a type allows it says there, in words, in JSON Schema and in code.
//! 2. Carry it into `model.rs`, in `resolve.rs` or below it. If it contradicts others, say so in `resolve/check.rs`; if it
//!    means something for HTTP alone or not for refused traffic, list it in `effective.rs`; if it is only read when the
//!    process starts, in `adopt.rs`.
//! 3. Give it another value than its default in `tests/everything.toml`, and a wrong one in `tests/golden`.
//! 4. `DRAGOMAN_BLESS=1 cargo test -p dragoman-config`, and read what has changed in `docs`.
//!
//! A new table is a key whose type is that table. Reading, merging, inheriting, printing, suggesting and
//! documenting follow by themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dragoman_policy::GrpcStatus::{DataLoss, Internal, Unavailable, Unknown};
use ipnet::IpNet;

use crate::{
    model::{RootSource, TlsVersion},
    table::{joined_table, table},
    value::{
        collection::{List, Named, NonEmpty, Switch},
        grpc::GrpcFailure,
        http::{ChangeableHeader, HeaderName, Method, Status, UnprocessedStatus},
        name::NamePattern,
        net::{Endpoint, Port, Ports},
        pairs::{MatchHeaders, MatchQuery, SetHeaders},
        path::PathPattern,
        quantity::{Attempts, Count, DAY, Deadline, GIB, HOUR, KIB, MIB, MINUTE, Ratio, SECOND, Size, Time},
        tls::{InboundMode, Peer, Pin, ServerName, Spiffe, Trusted},
        trace::{Receiver, ServiceName},
        word::{
            AbsolutePath, Access, DestinationName, FilePath, Format, Level, Propagation, Protocol,
            SocketPath, UpstreamProtocol,
        },
    },
};

table! {
    /// The whole file.
    Root {
        /// The listener of captured connections, and the limits of the process.
        proxy: Proxy = Proxy::default();
        /// The read-only surface for probes and scrapes.
        admin: Admin = Admin::default();
        /// The surface that shows and changes things, for an operator on this machine.
        control: Control = Control::default();
        /// The log of the process, and the access log.
        log: Log = Log::default();
        /// DNS: what the app asks, passed on to the resolvers of the machine, and learnt from.
        dns: Dns = Dns::default();
        /// Traces: what is begun where the app began none, and where spans are sent.
        trace: Trace = Trace::default();
        /// The flight recorder: what `dragoman explain` and `dragoman flows` tell of.
        recorder: Recorder = Recorder::default();
        /// Who this app is: what is presented to servers that ask for a certificate, where `tls.identity` says nothing else.
        identity: Identity = Identity::default();
        /// TLS of the connections that come to the app, which `dragoman-init install --inbound` redirects; docs/tls.md has
        /// more. `inbound = false` turns off what an earlier file turned on.
        inbound: Switch<Inbound> = Switch::Off;
        /// What every destination starts from, and the whole policy of traffic that no destination matches.
        defaults: Defaults = Defaults::default();
        /// One target of traffic and its policy. The name is yours; it appears in logs and metrics.
        destination: Named<Destination> = Named::default();
        /// A plain port that leads to a destination, for where nothing is captured. The name is yours.
        listener: Named<Listener> = Named::default();
    }
}

table! {
    /// The listener of captured connections, and the limits of the process.
    Proxy {
        /// The port that captured connections are redirected to.
        port: Port = Count(15001);
        /// How many ports, from `port` on, are listened on: as many as `dragoman-init --port FIRST-LAST` has.
        port_count: Count<1, 64> = Count(1);
        /// The addresses to listen on. The kernel redirects to loopback, so others are rarely needed.
        listen: NonEmpty<IpAddr> = NonEmpty(List::of([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
        /// The mark (`SO_MARK`) of each connection that dragoman opens, for `dragoman-init --mark`. To set it takes
        /// CAP_NET_ADMIN, which the proxy then needs for as long as it runs.
        mark: Count<1, 4_294_967_295>;
        /// Threads that serve flows; 0 is automatic, from the number of cores.
        workers: Count<0, 256> = Count(0);
        /// The most flows at once; beyond it, new ones are reset (cause `flow_limit`).
        max_flows: Count<1, 1_000_000> = Count(16_384);
        /// How long flows, old and new, may go on after SIGTERM, or after `dragoman drain --announce` if that came before.
        drain: Time<0, HOUR> = Time::of(25 * SECOND);
        /// A drain ends early when no flow was at work for so long; idle HTTP connections are none.
        drain_quiet: Time<0, HOUR> = Time::of(SECOND);
        /// A drain does not end early while another process listens on a TCP port of this network namespace:
        /// the app is still there. Other sidecars of a pod listen too; the drain is over at its deadline at the latest.
        drain_while_listening: bool = false;
        /// From the first byte of a request head to its end. In HTTP/2, where heads share a connection, it ends that.
        request_head_timeout: Time<1, { 10 * MINUTE }> = Time::of(30 * SECOND);
        /// The longest silence of the app inside a request body, a stream of gRPC messages included.
        request_body_timeout: Deadline;
        /// The most bytes of a request or response head.
        max_head_bytes: Size<KIB, MIB> = Size(64 * 1024);
        /// The most headers of a request or response.
        max_headers: Count<16, 256> = Count(256);
        /// The most HTTP/2 streams at once on one connection of the app.
        max_h2_streams: Count<1, 100_000> = Count(256);
        /// The most bytes that all exchanges together keep of request bodies to send them again; beyond it, bodies
        /// are passed on and not retried.
        replay_bytes: Size<0, { 64 * GIB }> = Size(16 * 1024 * 1024);
    }
}

table! {
    /// The read-only surface for probes and scrapes: `/live`, `/ready`, `/metrics`.
    Admin {
        /// The addresses to listen on; `[]` is none. Kubelet and Prometheus need one beyond loopback.
        listen: List<SocketAddr> = List::of([SocketAddr::from((Ipv4Addr::LOCALHOST, 15020))]);
    }
}

table! {
    /// The surface that shows and changes things, for an operator on this machine: the configuration, the state of
    /// destinations, the level of the log, drain and takeover.
    Control {
        /// A Unix socket for root and the proxy's own user; "off" is none. Where it is not set, it is
        /// /run/dragoman/control.sock if that can be made.
        socket: SocketPath;
        /// Addresses on loopback to listen on; `[]` is none.
        listen: List<SocketAddr> = List::of([SocketAddr::from((Ipv4Addr::LOCALHOST, 15000))]);
        /// Whether POST on `listen` may change things, as it always may on the socket.
        changes_on_tcp: bool = false;
        /// Whether POST /quitquitquit, and nothing else, is allowed on `listen`: the app, which need not reach the socket, says
        /// that it is done. So may every other process of this machine, or pod.
        quit_on_tcp: bool = false;
    }
}

table! {
    /// DNS: what the app asks is passed on to the resolvers of the machine, and the names of the addresses that it gets are
    /// learnt: docs/dns.md.
    Dns {
        /// Addresses on loopback to answer on, over UDP and TCP, for `dragoman-init --capture-dns PORT`, as
        /// `["127.0.0.1:15053", "[::1]:15053"]`; `[]` is none.
        listen: List<SocketAddr> = List::of([]);
        /// The file that names the resolvers, in the form of resolv.conf(5). It is read again when it has changed.
        resolv_conf: AbsolutePath = AbsolutePath("/etc/resolv.conf".into());
    }
}

table! {
    /// A plain port that leads to a destination, for where nothing is captured. All its connections belong to that
    /// destination, whatever host they name. These are read when the process starts, and never again.
    Listener {
        /// Where to listen. Whoever reaches an address beyond loopback reaches the destination.
        address: SocketAddr;
        /// The name of a destination, which names its endpoints. One that states nothing to match is then for this port
        /// alone.
        destination: DestinationName;
    }
}

table! {
    /// The log of the process, on standard error, and the access log.
    Log {
        /// How much of the process's own log is written.
        level: Level = Level::Info;
        /// How the process's own log is written.
        format: Format = Format::Text;
        /// Which flows and exchanges the access log tells of.
        access: Access = Access::Failures;
        /// Which share of those that ended well gets a line where `access = "all"`; those that failed always do.
        access_sample: Ratio<1> = Ratio(1.0);
        /// How the access log is written.
        access_format: Format = Format::Json;
        /// Where the access log goes: a path, or `-` for standard output. SIGUSR1 has the file opened again, after it was
        /// renamed.
        access_file: FilePath = FilePath("-".into());
    }
}

table! {
    /// Traces: what is begun where the app began none, and where spans are sent. docs/tracing.md has more.
    Trace {
        /// Where spans of exchanges, attempts and opaque flows are sent; without it none are made. The path
        /// `/v1/traces` is added. Standard variables such as OTEL_EXPORTER_OTLP_ENDPOINT are not read.
        endpoint: Receiver;
        /// The share of traces that are recorded, of those that no caller has decided about. What a caller decided
        /// is honoured. Without `endpoint`, all that is begun is marked as sampled.
        sample: Ratio<1> = Ratio(0.01);
        /// The form of the trace context where `trace = true` begins one. What the app began is continued in its
        /// own form.
        propagation: Propagation = Propagation::W3c;
        /// The attribute `service.name` of all spans.
        service_name: ServiceName = ServiceName("dragoman".into());
        /// Headers to send to `endpoint` with the spans.
        headers: SetHeaders = SetHeaders::none();
    }
}

table! {
    /// The flight recorder: the stories of the latest flows and exchanges, in memory, for `dragoman explain` and
    /// `dragoman flows`. No header value, no query and no body is in it. docs/explain.md has more.
    Recorder {
        /// The most bytes that the stories take, from 64KiB; when they are full, the oldest go first, and those of
        /// failures last. 0 turns it off.
        memory: Size<0, GIB> = Size(1024 * 1024);
    }
}

table! {
    /// Who this app is: what is presented to servers that ask for a certificate, where `tls.identity` says nothing else.
    Identity {
        /// The certificate in PEM, the own one first and then those that lead to a root.
        certificate: AbsolutePath;
        /// Its private key in PEM.
        key: AbsolutePath;
    }
}

table! {
    /// TLS of the connections that come to the app.
    Inbound {
        /// The port that they are redirected to, on all addresses.
        port: Port = Count(15006);
        /// What is presented to clients, in place of `[identity]`; one of them must be there.
        identity: Identity;
        /// Who may have signed a client's certificate: PEM files. It must be stated.
        roots: NonEmpty<AbsolutePath>;
        /// Revocation lists in PEM, which must then cover each certificate of a client's chain.
        crls: List<AbsolutePath> = List::of([]);
        /// The lowest version of TLS that is spoken.
        min_version: TlsVersion = TlsVersion::V1_2;
        /// What becomes of connections that are not TLS: `strict` refuses them, `permissive` passes them on.
        mode: InboundMode = InboundMode::Strict;
        /// What the app speaks, as in a destination: an app that believes `x-forwarded-client-cert` should have `http` here,
        /// since of what is passed on as mere bytes no header is removed.
        protocol: Protocol = Protocol::Auto;
        /// Who may connect; `[]` is whoever has a certificate that `roots` signed.
        allow: List<Peer> = List::of([]);
        /// What differs for a port of the app. The name is the port's number.
        app_port: Named<AppPort> = Named::default();
    }
}

table! {
    /// What differs for a port of the app.
    AppPort {
        /// As in `[inbound]`, which holds where nothing is said.
        mode: InboundMode;
        /// As in `[inbound]`, which holds where nothing is said.
        protocol: Protocol;
        /// As in `[inbound]`, which holds where nothing is said.
        allow: List<Peer>;
    }
}

table! {
    /// What a destination matches. Every kind of key that is stated must match.
    Match {
        /// Names in the Host header, without regard to case or port; `*.x` is one or more labels before x. Of a flow that
        /// gives no name, the one that the app asked DNS for (docs/dns.md).
        hosts: NonEmpty<NamePattern>;
        /// TLS server names, written like `hosts`.
        sni: NonEmpty<NamePattern>;
        /// Networks of the original destination. IPv4 in IPv6 form is matched as IPv4.
        cidrs: NonEmpty<IpNet>;
        /// Ports of the original destination.
        ports: NonEmpty<Ports>;
    }
}

table! {
    /// How a destination is reached.
    Connection {
        /// What is spoken: `auto` finds out, `http` refuses everything else, `opaque` relays bytes unseen.
        protocol: Protocol = Protocol::Auto;
        /// What HTTP endpoints are spoken to in: `auto` is what the app speaks, the others translate.
        upstream_protocol: UpstreamProtocol = UpstreamProtocol::Auto;
        /// Where to connect instead of the original destination, each in turn.
        endpoints: NonEmpty<Endpoint>;
        /// Refuse the traffic.
        deny: bool = false;
        /// How long a connection may take to be made.
        connect_timeout: Time<1, { 10 * MINUTE }> = Time::of(5 * SECOND);
        /// Stop asking an endpoint that fails, and probe it now and then.
        breaker: Switch<Breaker> = Switch::Off;
        /// Share upstream HTTP connections between flows.
        pool: Switch<Pool> = Switch::Off;
        /// Speak TLS to the server for the app. What the app itself encrypts passes untouched.
        tls: Switch<Tls> = Switch::Off;
        /// Networks to which a credential among the headers that policy sets may go though no server there is verified: in
        /// plain text, or to whom the app likes. It decides by the original destination; elsewhere the exchange is refused
        /// (cause `credential_withheld`).
        danger_plain_text_credentials: List<IpNet> = List::of([]);
    }
}

table! {
    /// What is done for an exchange.
    Exchange {
        /// The whole exchange, all attempts and waits included.
        timeout: Deadline;
        /// One attempt, from its first byte sent to the response head.
        try_timeout: Deadline;
        /// Repeat what failed, where that is provably safe.
        retry: Switch<Retry> = Switch::Off;
        /// Add `x-request-id` when the app sent none.
        request_id: bool = false;
        /// Continue `traceparent` and B3 headers, and begin a trace when the app sent none.
        trace: bool = false;
        /// Headers of the request to set and to remove.
        headers: Headers = Headers::default();
        /// Headers of the response to set and to remove.
        response_headers: Headers = Headers::default();
        /// Set `x-response-time` in the response: milliseconds from the end of the request head to the response head.
        response_time: bool = false;
        /// Add `server-timing` to the response: how the time until its head was spent.
        server_timing: bool = false;
    }
}

table! {
    /// When a failed attempt is repeated.
    Retry {
        /// Attempts in all, the first included.
        attempts: Attempts = Attempts(3);
        /// Statuses worth another attempt, if it is safe.
        statuses: List<Status> = List::of([429, 502, 503, 504].map(Status::One));
        /// Statuses by which these servers prove that they did not process the request: safe for any method.
        unprocessed_statuses: List<UnprocessedStatus> = List::of([]);
        /// gRPC statuses that are worth another attempt when they come instead of an answer; naming one says that
        /// these servers did not process the call.
        grpc_statuses: List<GrpcFailure> = List::of([]);
        /// Methods that may be repeated after the server has seen the request.
        methods: List<Method> =
            List::of(["GET", "HEAD", "OPTIONS", "DELETE"].map(|name| Method(name.into())));
        /// A request header by which the server recognises a repetition; with it, any method is safe.
        idempotency_header: HeaderName;
        /// Repeat when no connection could be made.
        connect: bool = true;
        /// Repeat when the connection broke before the response.
        reset: bool = true;
        /// Repeat after `try_timeout`.
        timeout: bool = true;
        /// Repeat what HTTP/2 itself says was not processed (REFUSED_STREAM, GOAWAY): safe for any method.
        refused: bool = true;
        /// The wait before retry n is random, from 0 to the smaller of `cap` and `base` times 2 to the n.
        base: Time<1, MINUTE> = Time::of(100);
        /// The longest wait, and the longest `Retry-After` or gRPC pushback that is waited for.
        cap: Time<1, HOUR> = Time::of(30 * SECOND);
        /// Wait at least as long as `Retry-After` asks; do not retry if that is more than `cap`.
        honour_retry_after: bool = true;
        /// The most bytes of a request body kept to be sent again; a longer body is not retried.
        replay_bytes: Size<0, { 16 * MIB }> = Size(64 * 1024);
        /// How many retries there may be in all, so that they never drown the server.
        budget: Budget = Budget::default();
    }
}

table! {
    /// How many retries there may be, beside the requests.
    Budget {
        /// Retries per request.
        ratio: Ratio<10> = Ratio(0.2);
        /// Retries per second that are allowed whatever the ratio says.
        min_per_second: Count<0, 100_000> = Count(10);
        /// How far back requests and retries are counted.
        window: Time<SECOND, { 10 * MINUTE }> = Time::of(10 * SECOND);
    }
}

table! {
    /// When an endpoint is no longer asked.
    Breaker {
        /// This many failures within `window` open the breaker, if they are also `failure_percent`.
        failures: Count<1, 100_000> = Count(5);
        /// The share of the results within `window` that must be failures, in per cent; 0 leaves it to the count.
        failure_percent: Count<0, 100> = Count(50);
        /// How far back failures are counted.
        window: Time<SECOND, HOUR> = Time::of(10 * SECOND);
        /// How long an open breaker refuses, before it lets one probe through.
        open: Time<1, HOUR> = Time::of(30 * SECOND);
        /// How long a probe may take, before another may go.
        probe_deadline: Time<1, HOUR> = Time::of(30 * SECOND);
        /// Statuses that count as failures, beside connections that cannot be made or break.
        statuses: List<Status> = List::of([Status::ServerErrors]);
        /// gRPC statuses that count as failures, wherever in the answer they stand.
        grpc_statuses: List<GrpcFailure> =
            List::of([Unavailable, Unknown, Internal, DataLoss].map(GrpcFailure));
    }
}

table! {
    /// Upstream connections that are kept for the next exchange.
    Pool {
        /// The most idle connections kept per endpoint.
        max_idle: Count<1, 10_000> = Count(64);
        /// How long a connection may be idle before it is closed.
        idle: Time<SECOND, HOUR> = Time::of(MINUTE);
        /// How long after it was made a connection takes new exchanges.
        max_age: Time<SECOND, DAY>;
        /// The most connections per endpoint, in use and idle; beyond it, exchanges wait for one, or for an HTTP/2 stream.
        max_size: Count<1, 100_000>;
        /// How many idle connections are kept ready per endpoint in use.
        min_warm: Count<0, 1000> = Count(0);
    }
}

table! {
    /// TLS to the server: docs/tls.md has more.
    Tls {
        /// The port to connect to in place of that of the original destination.
        port: Port;
        /// The name or IP address that the server is asked for and its certificate must be for. Where it is not set, it is
        /// the host of the request, else the name that the app asked DNS for, else the address.
        server_name: ServerName;
        /// Who may have signed the server's certificate: `webpki` is Mozilla's list as of the build, `system` the machine's.
        roots: NonEmpty<Trusted> = NonEmpty(List::of([Trusted(RootSource::Webpki)]));
        /// Revocation lists in PEM, which must then cover each certificate of the server's chain.
        crls: List<AbsolutePath> = List::of([]);
        /// SHA-256 of public keys, one of which the server's chain must have besides all else; `[]` is any.
        pins: List<Pin> = List::of([]);
        /// The SPIFFE IDs that a server may have, one of which is verified in place of its name; `[]` verifies the name.
        spiffe: List<Spiffe> = List::of([]);
        /// The lowest version of TLS that is spoken.
        min_version: TlsVersion = TlsVersion::V1_2;
        /// Offer the hybrid key exchange X25519MLKEM768 first, which a quantum computer does not break later.
        post_quantum: bool = true;
        /// What is presented to a server that asks, in place of `[identity]`; `false` is nothing.
        identity: Switch<Identity>;
        /// Verify nothing: whoever is in the path reads and changes everything. It is counted, and warned of at the start.
        danger_accept_any_certificate: bool = false;
    }
}

table! {
    /// Changes to the headers of a message.
    Headers {
        /// Headers to set, in place of those of the same name.
        set: SetHeaders = SetHeaders::none();
        /// Headers to remove.
        remove: List<ChangeableHeader> = List::of([]);
    }
}

table! {
    /// Rules within a destination.
    Routes {
        /// Another policy for some of its requests. The name is yours; it appears in logs and metrics.
        route: Named<Route> = Named::default();
    }
}

table! {
    /// What a route matches. Every key that is stated must match.
    RouteMatch {
        /// The path: exact (`/v1/charges`), a template (`/v1/{id}/refunds`) or a prefix (`/v1/*`).
        path: PathPattern;
        /// Names in the Host header, written like those of the destination, and a part of them.
        hosts: NonEmpty<NamePattern>;
        /// Methods.
        methods: NonEmpty<Method>;
        /// Headers with exactly this value, or with any value for `"*"`. The first of a name counts.
        match_headers: MatchHeaders;
        /// Parameters of the query, likewise. Names and values are compared as they are sent, byte by byte.
        query: MatchQuery;
    }
}

table! {
    /// What a route has for itself.
    Own {
        /// A breaker of the route's own.
        breaker: Breaker;
    }
}

joined_table! {
    /// `[defaults]`: what every destination starts from.
    Defaults {
        /// How it is reached.
        connection: Connection;
        /// What is done for an exchange.
        exchange: Exchange;
    }
}

joined_table! {
    /// `[destination.NAME]`: what it matches, and its policy.
    Destination {
        /// What it matches.
        matches: Match;
        /// How it is reached.
        connection: Connection;
        /// What is done for an exchange.
        exchange: Exchange;
        /// Its routes.
        routes: Routes;
    }
}

joined_table! {
    /// `[destination.NAME.route.NAME]`: what it matches, and what differs from the destination.
    Route {
        /// What it matches.
        matches: RouteMatch;
        /// What it has for itself.
        own: Own;
        /// What is done for an exchange.
        exchange: Exchange;
    }
}
