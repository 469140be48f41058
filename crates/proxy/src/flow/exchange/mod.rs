//! What an exchange decides, whatever version of HTTP carries it.
//!
//! The versions differ in how bytes move. Which policy holds, whether an endpoint may be tried, what a try says about
//! it and whether there is another one: that is here, once.

pub(crate) mod plan;
pub(crate) mod replay;
pub(crate) mod response;
pub(crate) mod silence;
pub(crate) mod trace;
pub(crate) mod tries;
