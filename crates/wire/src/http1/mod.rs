//! HTTP/1.0 and 1.1 as they stand on the wire (RFC 9112): where a head ends, what it says about the
//! connection and the body, where the body ends.
//!
//! A proxy and a server that read the same bytes differently are a smuggling hole. So everything that
//! two readers are known to read differently is refused, and what is accepted is forwarded byte for
//! byte: the next reader sees what this one judged.

mod body;
mod fields;
mod forward;
mod framing;
mod head;
mod request;
mod response;
mod target;

pub use body::{BadBody, BodyReader, Chunked, Part};
pub use fields::{Field, Known, Span, list};
pub use framing::{Body, Connection};
pub use head::{BadHead, Limits, Version};
pub use request::RequestHead;
pub use response::ResponseHead;
