//! The far side: which endpoint, whether it may be tried, and a connection to it.

pub(crate) mod dial;
pub(crate) mod learnt;
pub(crate) mod link;
pub(crate) mod multiplex;
pub(crate) mod pool;
pub(crate) mod state;
pub(crate) mod tls;
