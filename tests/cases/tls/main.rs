//! TLS towards servers: what holds is encrypted and known for whom it is, and what does not is refused under one name.

mod causes;
mod ends;
mod matrix;
mod servers;
