//! Every metric: its name, kind, labels and meaning, stated once.
//!
//! The page for Prometheus, the checks of its labels, and `docs/metrics.md` are made from this table, so a metric that
//! is not in it cannot be exported, and one that is in it cannot be undocumented. Names follow Prometheus' own advice:
//! the unit last, `_total` for what only grows.

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size, in the buckets of [`crate::BUCKETS`].
    Histogram,
}

impl Kind {
    /// The word for it in the text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Builds the enum and its accessors from the table.
macro_rules! metrics {
    ($($variant:ident $kind:ident $name:literal [$($label:ident)*] $about:literal;)+) => {
        /// A metric of the page. See `docs/metrics.md`, which is made from the same table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric { $(#[doc = $about] $variant,)+ }

        impl Metric {
            /// Every metric, in the order of page and documentation.
            pub const ALL: &[Metric] = &[$(Metric::$variant,)+];

            /// Its name on the page.
            pub const fn name(self) -> &'static str {
                match self { $(Metric::$variant => $name,)+ }
            }

            /// What it is to Prometheus.
            pub const fn kind(self) -> Kind {
                match self { $(Metric::$variant => Kind::$kind,)+ }
            }

            /// The keys of its labels, in the order in which values are given.
            pub const fn labels(self) -> &'static [&'static str] {
                match self { $(Metric::$variant => &[$(stringify!($label)),*],)+ }
            }

            /// What it says, in a sentence.
            pub const fn about(self) -> &'static str {
                match self { $(Metric::$variant => $about,)+ }
            }
        }
    };
}

#[rustfmt::skip]
metrics! {
    // Flows.
    Flows Counter "dragoman_flows_total" [destination protocol cause]
        "Captured connections that have ended, by what they spoke and why they ended (`-`: well).";
    FlowsOpen Gauge "dragoman_flows_open" []
        "Captured connections that are open.";
    FlowsLimit Gauge "dragoman_flows_limit" []
        "The most captured connections that may be open (proxy.max_flows).";
    Defects Counter "dragoman_defects_total" []
        "Flows and exchanges that a defect in dragoman has ended (cause `internal`).";
    Tasks Gauge "dragoman_tasks" []
        "Tasks of the runtime: one for each flow, HTTP/2 stream and pooled HTTP/2 connection, and a few of the process's own.";
    AcceptErrors Counter "dragoman_accept_errors_total" [kind]
        "Failures of accept, by kind.";
    EarlyDials Counter "dragoman_early_dials_total" [result]
        "Connections dialled before the protocol was known, by what became of them.";
    Sniff Histogram "dragoman_sniff_seconds" [protocol]
        "From accept until the protocol of a flow is known, by that; the silence of the app is in it.";
    Bytes Counter "dragoman_bytes_total" [destination direction]
        "Bytes relayed, by direction, counted when the flow or the exchange ends.";

    // Exchanges.
    Exchanges Counter "dragoman_exchanges_total" [destination code cause]
        "HTTP exchanges that have ended, by the status that the app saw (`-`: none) and the cause (`-`: well).";
    Grpc Counter "dragoman_grpc_responses_total" [destination grpc_status]
        "gRPC calls that were answered, by the status that the app got.";
    Attempts Counter "dragoman_attempts_total" [destination outcome]
        "Tries of an exchange on one endpoint, by what they say about it.";

    EndpointAttempts Counter "dragoman_endpoint_attempts_total" [destination endpoint outcome]
        "The same by endpoint, for 64 endpoints of each destination; the rest, and what was idle for 15 minutes, is `other`.";
    FirstByte Histogram "dragoman_first_byte_seconds" [destination]
        "From when an attempt begins to send its request until the final response head is here.";
    ExchangeTime Histogram "dragoman_exchange_seconds" [destination]
        "From the end of the request head until the exchange has ended, all attempts and waits and both bodies included.";

    // Resilience.
    Retries Counter "dragoman_retries_total" [destination reason]
        "Attempts that were repeated, by why the one before failed.";
    RetryRefusals Counter "dragoman_retry_refusals_total" [destination reason]
        "Failed attempts that were not repeated, by why not.";
    BreakerTransitions Counter "dragoman_breaker_transitions_total" [destination to]
        "Changes of state of the circuit breakers, by the new state.";
    Breakers Gauge "dragoman_breakers" [destination state]
        "Circuit breakers, one for each endpoint in use, by their state.";
    EndpointBreaker Gauge "dragoman_endpoint_breaker_state" [destination endpoint]
        "The worst of the endpoint's breakers: 0 closed, 1 half-open, 2 open; for 64 endpoints of each destination, those in trouble first.";
    BudgetBalance Gauge "dragoman_retry_budget_balance" [destination]
        "Retries that the emptiest retry budget of an endpoint would grant now.";

    // Upstream connections.
    Connections Counter "dragoman_upstream_connections_total" [destination how]
        "Upstream connections taken for use, by whether they were dialled or reused.";
    Connect Histogram "dragoman_connect_seconds" [destination]
        "How long it took to make an upstream connection, where that succeeded.";
    IdleClosed Counter "dragoman_upstream_idle_closed_total" [destination]
        "Pooled upstream connections closed without being used again.";
    PoolConnections Gauge "dragoman_pool_connections" [destination protocol state]
        "Pooled upstream connections, by what they speak and whether they are in use.";
    PoolStreams Gauge "dragoman_pool_streams" [destination]
        "Exchanges under way on pooled HTTP/2 connections.";
    PoolWaiting Gauge "dragoman_pool_waiting" [destination]
        "Exchanges that wait for a connection, because as many as pool.max_size are in use.";

    // TLS towards servers, and with the clients of the app.
    Handshakes Counter "dragoman_tls_handshakes_total" [destination result]
        "TLS handshakes with servers (`inbound`: with clients), by result: `full`, with certificates shown, `resumed`, or `failed`.";
    HandshakeTime Histogram "dragoman_tls_handshake_seconds" [destination]
        "How long the TLS handshake with a server (`inbound`: a client) took, where it succeeded; the connection below it is in dragoman_connect_seconds.";
    Unverified Counter "dragoman_tls_unverified_total" [destination]
        "TLS connections to servers that were not asked who they are (danger_accept_any_certificate).";

    // DNS: only where it is served.
    DnsQueries Counter "dragoman_dns_queries_total" [transport outcome]
        "DNS queries of the app that have ended, by how they came and what became of them.";
    DnsTime Histogram "dragoman_dns_seconds" []
        "From when a DNS query was read until its answer was there, where a resolver gave one.";
    DnsRetries Counter "dragoman_dns_retries_total" []
        "Times that a query was put to a resolver again or to the next one, because the one before was silent or failed.";
    DnsStrays Counter "dragoman_dns_strays_total" []
        "Messages from resolvers that answered nothing that was asked: forged, broken or of another query.";
    DnsPending Gauge "dragoman_dns_pending" []
        "DNS queries that wait for a resolver.";
    DnsNames Gauge "dragoman_dns_names" []
        "Addresses that are known by the name that the app asked for.";

    // The configuration.
    Reloads Counter "dragoman_config_reloads_total" [result]
        "Times that the configuration was read again because it had changed or by SIGHUP, by result.";
    ReloadSuccessful Gauge "dragoman_config_last_reload_successful" []
        "1 if the configuration as it was last read is in force, 0 if it was refused.";
    ConfigGeneration Gauge "dragoman_config_generation" []
        "How many configurations have been in force since the start.";
    ConfigHash Gauge "dragoman_config_hash" []
        "48 bits of a hash of the text of the configuration in force: equal where that is equal.";
    ConfigApplied Gauge "dragoman_config_applied_timestamp_seconds" []
        "When the configuration in force was applied, in seconds since 1970.";
    RestartNeeded Gauge "dragoman_config_restart_needed" []
        "1 if the configuration in force states keys that take effect at the next start.";

    // The files of TLS.
    TlsReloads Counter "dragoman_tls_reloads_total" [result]
        "Times that changed files of TLS were read, for a destination or inbound, by result; those refused count once.";
    TlsRefused Gauge "dragoman_tls_files_refused" []
        "Destinations, and inbound, whose files of TLS say what cannot be used: the last good ones stay in force.";
    TlsExpiry Gauge "dragoman_tls_certificate_expiry_seconds" [destination]
        "When the certificate that is presented for a destination (`inbound`: to clients) expires, in seconds since 1970.";

    // The log, and the process.
    AccessLogWaiting Gauge "dragoman_access_log_waiting" []
        "Access log lines that wait for the writer.";
    AccessLogDropped Counter "dragoman_access_log_dropped_total" []
        "Access log lines lost, because the writer was behind or could not write.";
    SpansExported Counter "dragoman_spans_exported_total" []
        "Spans that the receiver of traces has taken; with trace.endpoint alone.";
    SpansDropped Counter "dragoman_spans_dropped_total" [reason]
        "Spans that were lost, by why; with trace.endpoint alone.";
    BuildInfo Gauge "dragoman_build_info" [version profile]
        "Always 1; the labels say what runs.";
    StartTime Gauge "process_start_time_seconds" []
        "When the process started, in seconds since 1970.";
    ProcessCpu Counter "process_cpu_seconds_total" []
        "Processor time of the process, user and system, in seconds.";
    ProcessMemory Gauge "process_resident_memory_bytes" []
        "Memory of the process that is in RAM.";
    ProcessThreads Gauge "process_threads" []
        "Threads of the process.";
    ProcessOpenFds Gauge "process_open_fds" []
        "Open file descriptors of the process.";
    ProcessMaxFds Gauge "process_max_fds" []
        "The most file descriptors that the process may have open.";

    // The network namespace.
    ConntrackEntries Gauge "dragoman_conntrack_entries" []
        "Entries in the connection tracking table of the network namespace.";
    ConntrackLimit Gauge "dragoman_conntrack_limit" []
        "The most entries that table may have; beyond it the kernel drops new connections.";
    PortsUsed Gauge "dragoman_ports_used" [side]
        "TCP sockets that share one pair of addresses, TIME_WAIT included: `app`, to our listener from the source with the most; `upstream`, from anybody here to the address and port with the most.";
    PortsLimit Gauge "dragoman_ports_limit" [side]
        "How many ports there are for one such pair: `app`, all from 1024 on; `upstream`, ip_local_port_range.";
}
