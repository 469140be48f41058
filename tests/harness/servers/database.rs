//! PostgreSQL, MariaDB and Redis, durable in nothing: a test's data need not survive it.

use std::path::Path;
use std::process::Command;

use super::{Server, as_user, newest, self_signed};
use crate::net::Namespace;
use crate::process;
use crate::scratch::Scratch;

/// PostgreSQL with the superuser `app` (password `secret`, SCRAM; none on its socket) and the database
/// `postgres`.
pub fn postgres(namespace: &Namespace) -> Server {
    start_postgres(namespace, Scratch::new("postgres"), &[])
}

/// The same with a certificate, for clients that ask for TLS.
pub fn postgres_with_tls(namespace: &Namespace) -> Server {
    let scratch = Scratch::new("postgres");
    self_signed(&scratch, "postgres.test");
    let file = |name| scratch.path().join(name).display().to_string();
    let settings =
        [format!("ssl_cert_file={}", file("cert")), format!("ssl_key_file={}", file("key")), "ssl=on".into()];
    start_postgres(namespace, scratch, &settings)
}

fn start_postgres(namespace: &Namespace, scratch: Scratch, more: &[String]) -> Server {
    const PORT: u16 = 5432;
    let password = scratch.write("password", "secret\n");
    scratch.give_to("postgres");
    let data = scratch.path().join("data");
    let mut initdb = Command::new("setpriv");
    as_user(&mut initdb, "postgres", &newest("/usr/lib/postgresql", "bin/initdb"));
    initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--username=app"]);
    process::succeed(initdb.arg("--pwfile").arg(password).arg("--pgdata").arg(&data));
    let access = "local all all trust\nhost all all all scram-sha-256\n";
    std::fs::write(data.join("pg_hba.conf"), access).expect("root writes anywhere");
    let mut command = namespace.command("setpriv");
    as_user(&mut command, "postgres", &newest("/usr/lib/postgresql", "bin/postgres"));
    command.arg("-D").arg(&data).arg("-k").arg(scratch.path());
    let settings = ["listen_addresses=*", "fsync=off", "log_connections=on", "shared_buffers=16MB"];
    for setting in settings.into_iter().chain(more.iter().map(String::as_str)) {
        command.args(["-c", setting]);
    }
    Server::start(namespace, "postgres", &mut command, PORT, scratch)
}

/// MariaDB with the user `app` (password `secret`) and the database `app`.
pub fn mariadb(namespace: &Namespace) -> Server {
    const PORT: u16 = 3306;
    let scratch = Scratch::new("mariadb");
    let users = "CREATE DATABASE app;\nCREATE USER app@'%' IDENTIFIED BY 'secret';\n\
                 GRANT ALL ON *.* TO app@'%';\n";
    let users = scratch.write("users.sql", users);
    scratch.give_to("mysql");
    let data = scratch.path().join("data");
    let mut install = Command::new("mariadb-install-db");
    install.args([
        "--no-defaults",
        "--user=mysql",
        "--skip-test-db",
        "--auth-root-authentication-method=normal",
    ]);
    process::succeed(install.arg(option("datadir", &data)));
    let mut command = namespace.command("setpriv");
    as_user(&mut command, "mysql", Path::new("mariadbd"));
    command.args([
        "--no-defaults",
        "--bind-address=*",
        "--skip-name-resolve",
        "--innodb-flush-log-at-trx-commit=0",
    ]);
    command.arg(option("datadir", &data)).arg(option("init-file", &users));
    command.arg(option("socket", &scratch.path().join("socket")));
    Server::start(namespace, "mariadbd", &mut command, PORT, scratch)
}

/// Redis without a password.
pub fn redis(namespace: &Namespace) -> Server {
    const PORT: u16 = 6379;
    let scratch = Scratch::new("redis");
    let mut command = namespace.command("redis-server");
    command
        .args(["--save", "", "--protected-mode", "no", "--bind", "*", "-::*", "--dir"])
        .arg(scratch.path());
    Server::start(namespace, "redis-server", &mut command, PORT, scratch)
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
