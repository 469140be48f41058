//! The program as it is run: command line, exit codes, admin surface, rights. What it does to flows is tested
//! in `tests/cases` of the workspace.

mod admin;
mod ca;
mod check;
mod control;
mod drain;
mod inject;
mod install;
mod jobs;
mod life;
mod reload;
mod rights;
mod running;
mod systemd;
mod wait;
mod words;
