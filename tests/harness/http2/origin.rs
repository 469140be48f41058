//! A scripted HTTP/2 server that keeps each request it took.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::hpack::Field;
use super::wire::{Event, Wire, value};
use crate::net::Namespace;
use crate::origin::Origin;

/// A request that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who sent it: tells connections apart.
    pub peer: SocketAddr,
    /// Its stream.
    pub stream: u32,
    /// Its head.
    pub fields: Vec<Field>,
    /// Its body.
    pub body: Vec<u8>,
    /// The fields after its body.
    pub trailers: Vec<Field>,
}

impl Request {
    /// The first field of that name in the head.
    pub fn field(&self, name: &str) -> Option<&str> {
        value(&self.fields, name)
    }

    /// The `:path`; empty where there is none.
    pub fn path(&self) -> &str {
        self.field(":path").unwrap_or_default()
    }
}

/// Requests of one connection that have not come to their end.
#[derive(Default)]
pub struct Inbox(BTreeMap<u32, Request>);

impl Inbox {
    /// Takes the next request that comes to its end. `None` when the client has ended the connection. What
    /// a client resets is forgotten; what is not of a request is passed over.
    ///
    /// # Errors
    /// As [`Wire::event`] but for the end.
    pub fn request(&mut self, wire: &mut Wire) -> io::Result<Option<Request>> {
        loop {
            let event = match wire.event() {
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                event => event?,
            };
            let (stream, end) = match event {
                Event::Fields { stream, fields, end } => {
                    let new = || Request {
                        peer: wire.peer().peer(),
                        stream,
                        fields: Vec::new(),
                        body: Vec::new(),
                        trailers: Vec::new(),
                    };
                    let request = self.0.entry(stream).or_insert_with(new);
                    let part =
                        if request.fields.is_empty() { &mut request.fields } else { &mut request.trailers };
                    *part = fields;
                    (stream, end)
                }
                Event::Data { stream, bytes, end } => {
                    if let Some(request) = self.0.get_mut(&stream) {
                        request.body.extend(bytes);
                    }
                    (stream, end)
                }
                Event::Reset { stream, .. } => {
                    self.0.remove(&stream);
                    continue;
                }
                _ => continue,
            };
            if end && let Some(request) = self.0.remove(&stream) {
                return Ok(Some(request));
            }
        }
    }
}

/// A server in a namespace that answers each whole request by a script.
pub struct Http2Origin {
    origin: Origin,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Http2Origin {
    /// Listens on `address`. The script's last argument is the number of the request, from 0, over all
    /// connections. It may answer later, or other requests, or not at all.
    pub fn start<F>(namespace: &Namespace, address: SocketAddr, script: F) -> Http2Origin
    where
        F: Fn(&mut Wire, &Request, usize) -> io::Result<()> + Send + Sync + 'static,
    {
        Http2Origin::with_settings(namespace, address, &[], script)
    }

    /// The same, with settings of the server's own.
    pub fn with_settings<F>(
        namespace: &Namespace,
        address: SocketAddr,
        settings: &'static [(u16, u32)],
        script: F,
    ) -> Http2Origin
    where
        F: Fn(&mut Wire, &Request, usize) -> io::Result<()> + Send + Sync + 'static,
    {
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let kept = Arc::clone(&requests);
        let count = AtomicUsize::new(0);
        let origin = Origin::tcp(namespace, address, move |peer| {
            let mut wire = Wire::server(peer, settings)?;
            let mut inbox = Inbox::default();
            while let Some(request) = inbox.request(&mut wire)? {
                lock(&kept).push(request.clone());
                script(&mut wire, &request, count.fetch_add(1, Ordering::Relaxed))?;
            }
            Ok(())
        });
        Http2Origin { origin, requests }
    }

    /// Every whole request so far, in the order of their ends.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        self.origin.seen().len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
