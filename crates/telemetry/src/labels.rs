//! The closed label sets that are not causes.

/// Declares a label set: an enum, its words, and the list of all.
macro_rules! labels {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$inner])* $variant,)+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The word for it in metrics, log and documentation.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use labels;

labels! {
    /// What a flow speaks, as far as dragoman recognised it.
    Protocol {
        /// Nothing was recognised before the flow ended.
        Unknown = "unknown",
        /// Bytes that dragoman relays without looking at them.
        Opaque = "opaque",
        /// HTTP/1.0 and HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2.
        Http2 = "http2",
        /// TLS of the app's own, passed on untouched.
        Tls = "tls",
        /// PostgreSQL.
        Postgres = "postgres",
        /// Redis (RESP).
        Redis = "redis",
        /// MySQL and MariaDB.
        Mysql = "mysql",
        /// SMTP.
        Smtp = "smtp",
        /// FTP, the control connection.
        Ftp = "ftp",
        /// SSH.
        Ssh = "ssh",
    }
}

labels! {
    /// A version of TLS that dragoman speaks.
    TlsVersion {
        /// RFC 5246.
        V1_2 = "1.2",
        /// RFC 8446.
        V1_3 = "1.3",
    }
}

labels! {
    /// What an attempt says about its endpoint. Only `Failure` counts for the breaker.
    Outcome {
        /// The endpoint did its work.
        Success = "success",
        /// The endpoint, or the way to it, failed.
        Failure = "failure",
        /// The endpoint is alive and asks for less.
        Overload = "overload",
        /// The application or dragoman ended it: it says nothing about the endpoint.
        Local = "local",
    }
}

labels! {
    /// From where a flow came.
    Direction {
        /// From the app.
        Outbound = "outbound",
        /// From outside, for the app.
        Inbound = "inbound",
    }
}

labels! {
    /// How an attempt came by its connection.
    Way {
        /// It was made for it.
        New = "new",
        /// It was made while the app was still silent.
        Early = "early",
        /// It had carried something of another flow, or carries more than this.
        Pool = "pool",
        /// It was this flow's own already.
        Flow = "flow",
    }
}

labels! {
    /// What became of an upstream connection that was dialled before the protocol was known.
    EarlyDial {
        /// It carried the flow.
        Used = "used",
        /// It was closed, because the flow went elsewhere.
        Unused = "unused",
        /// It could not be made.
        Failed = "failed",
        /// Policy or the breaker did not allow it.
        Refused = "refused",
    }
}

labels! {
    /// What became of a TLS handshake with a server, or with a client of the app.
    Handshake {
        /// Certificates were shown.
        Full = "full",
        /// A session was taken up that had begun with a full one.
        Resumed = "resumed",
        /// There is no connection.
        Failed = "failed",
    }
}

labels! {
    /// Why `accept` failed.
    AcceptError {
        /// The connection was gone before it was accepted.
        Aborted = "aborted",
        /// No file descriptor was left, for the process or for the system.
        Descriptors = "descriptors",
        /// The kernel had no memory for it.
        Memory = "memory",
        /// Anything else; the process log has the text.
        Other = "other",
    }
}

labels! {
    /// How a DNS query came.
    DnsTransport {
        /// In a datagram.
        Udp = "udp",
        /// Over a connection.
        Tcp = "tcp",
    }
}

labels! {
    /// What became of a DNS query.
    DnsOutcome {
        /// A resolver answered, be it that there is no such name.
        Answered = "answered",
        /// Each resolver that was asked said that it cannot or will not answer.
        Failed = "failed",
        /// No resolver answered in time: dragoman said so.
        Unanswered = "unanswered",
        /// It could not be read, or is none that dragoman passes on.
        Refused = "refused",
        /// It was dragoman's own, which came back to it: it is sent again from another port, unless that is a loop.
        Looped = "looped",
        /// Too many were waiting, or the app or dragoman went away.
        Dropped = "dropped",
    }
}

labels! {
    /// What a circuit breaker does with the next request.
    BreakerState {
        /// Admits it.
        Closed = "closed",
        /// Refuses it.
        Open = "open",
        /// Admits it if it is the one probe.
        HalfOpen = "half_open",
    }
}

labels! {
    /// What came of reading the configuration again.
    Reload {
        /// It is in force.
        Applied = "applied",
        /// It is the one that was in force before.
        Unchanged = "unchanged",
        /// Something is wrong with it: the one before stays in force.
        Refused = "refused",
    }
}

labels! {
    /// What came of files of TLS that had changed.
    MaterialReload {
        /// They are in force.
        Applied = "applied",
        /// Something is wrong with them: the last good ones stay in force.
        Refused = "refused",
    }
}

labels! {
    /// Why a span was not exported.
    DropReason {
        /// Too many were waiting.
        QueueFull = "queue_full",
        /// The receiver did not take it.
        Rejected = "rejected",
        /// The receiver could not be reached, or asked to wait for longer than spans are kept.
        Unavailable = "unavailable",
    }
}
