//! TLS that the app speaks itself: policy by the name that it asks for, and not a byte changed.

mod clients;
mod ech;
mod hello;
mod hostile;
mod policy;

/// Two names are allowed, and what is below one of them but for a third; all else is denied.
const ALLOW_LIST: &str = "[defaults]\ndeny = true\n\
    [destination.pay]\nsni = ['pay.test']\ndeny = false\n\
    [destination.shop]\nsni = ['*.shop.test']\ndeny = false\n\
    [destination.evil]\nsni = ['evil.shop.test']\n";
