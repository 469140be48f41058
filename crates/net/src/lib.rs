//! Sockets in the terms of a transparent proxy: where a redirected connection was going, how to listen and dial
//! so that idle and half-closed flows survive, and how to end one as its other side ended.
//!
//! Everything here is a thin, tested wrapper over system calls and options: no policy.

mod addr;
mod child;
mod data;
mod dial;
mod end;
mod inside;
mod listen;
mod listening;
mod original_dst;
mod pipe;
mod reserve;
mod sleepers;
mod sys;
#[cfg(test)]
mod testing;
mod udp;
mod unix;

pub use addr::{OrigDst, Peer};
pub use child::{for_child, hear_of_children};
pub use data::{receive, send_last};
pub use dial::{DialError, dial, try_mark};
pub use end::{
    delivered, is_reset, is_still_open, is_timeout, reset_after_delivery, reset_on_close, seems_open,
    undelivered_bytes,
};
pub use inside::{Inside, Keeper};
pub use listen::{close_in_order, listen, prepare_accepted, reset_accepted};
pub use listening::{inodes, others_listen};
pub use original_dst::{NoOriginalDst, is_local, original_dst};
pub use pipe::Pipe;
pub use reserve::Reserve;
pub use sleepers::{Asleep, Sleepers};
pub use udp::{connect_udp, listen_udp};
pub use unix::{listen_unix, receive_descriptor, send_descriptor};
