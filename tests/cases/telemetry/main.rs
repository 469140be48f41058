//! What dragoman tells of its work: the page of metrics, the dashboard and the alerts that are made for it, and the
//! access log, with a real proxy and the programs that read them.

mod access_log;
mod addresses;
mod busy;
mod dashboard;
mod figures;
mod page;
mod queries;
