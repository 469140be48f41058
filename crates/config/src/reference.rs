//! The reference page, written from the tables themselves so that it cannot be wrong about them.

use crate::{
    adopt::read_at_start,
    environment::VARIABLES,
    raw::{Defaults, Match, Root, RouteMatch},
    table::{Key, Table},
};

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by the tests of crates/config: change the tables there, then run
     `DRAGOMAN_BLESS=1 cargo test -p dragoman-config`. -->

dragoman reads TOML. Every key may be left out, and an empty file changes nothing: traffic is
observed and passed on. `dragoman check FILE` tells every mistake at once; `dragoman check --print FILE`
shows the effective configuration, each key with its value and where it came from.

`dragoman schema` prints the JSON Schema of a file, which is also beside this page: [dragoman.schema.json](dragoman.schema.json).
Editors complete, explain and check keys with it: for Even Better TOML and everything else that stands on taplo,
write `#:schema ./dragoman.schema.json` (or a URL) as the first line. A schema sees one file and one key at a time;
`dragoman check` sees all.

- A **duration** is a string of integers with units, larger units first: `\"250ms\"`, `\"5s\"`, `\"1m30s\"`. The
  units are ms, s, m and h. A deadline that may be absent is turned off by leaving its key out.
- A **size** is an integer in bytes, or a string with a unit: `\"64KiB\"`. The units are B, KiB, MiB and GiB.
- `retry`, `breaker`, `pool` and `tls` are off until they are named: `retry = {}` turns retry on with its defaults,
  `retry = { attempts = 2 }` changes one of them, and `retry = false` turns off what is inherited.
- What is written once need not be repeated: a destination starts from `[defaults]`, and a route from its
  destination, key by key, also inside `retry`, `breaker`, `pool`, `tls` and `headers`. A list is one value: it
  replaces the inherited one. `retry = {}` where retry is inherited changes nothing.
- `--print` masks the values of headers and parameters whose names sound secret, such as `authorization` or
  `x-api-key`; `--show-secrets` prints them.
- Keys that have no effect where they stand, and destinations and routes that can never match, are errors.

### Changing it while dragoman runs

The files are looked at every two seconds, by content and through symbolic links, and at once on SIGHUP. What they
say is applied whole or, if anything is wrong, not at all: then the last good configuration stays, the log says what
is wrong, and `dragoman_config_last_reload_successful` is 0. A file that changes is applied when it has come to rest;
replace it by renaming another one over it all the same. No connection is closed and no exchange is cut:

- An exchange keeps the policy that it started with, and the next one, on the same connection too, has the new one.
  A flow that is relayed as bytes keeps what it has to its end, under a new `deny` too. So does HTTP/2 that began
  where there was no policy for it.
- A destination of which nothing changes, with all that it inherits, keeps its breakers, its retry budgets and its
  pooled connections. One that changes starts anew: its idle connections are closed, and those in use when their
  exchange has ended.
- `[proxy]`: limits hold from the next connection of the app on, timeouts from the next exchange on.
- Keys marked **Restart** are read when the process starts. A change of theirs is told in the log and by
  `dragoman_config_restart_needed`, and the rest of the file is applied.

The files are read by the user that the proxy runs as, not by root. Environment variables are those of the start.
";

const FILES: &str = "\
## Several files

`--config` may be repeated, and each may be a file or a directory. Of a directory the files `*.toml` count, in the
order of the bytes of their names; those that begin with a dot do not, and symbolic links are followed. What has such a name and
is no file is an error. All files together have at most 4 MiB.

A directory without such a file configures nothing, and a warning says so: it may be the mount of a ConfigMap that is optional
and comes later, which is noticed as any other change. Where there were files when dragoman started and all of one directory are
gone, that is an error, and the last good configuration stays: rather is a mount missing. To have nothing configured, put an
empty file there. Other files in a directory are not read; a warning names them.

- A later file overrides an earlier one key by key; the environment comes last.
- Tables are merged at any depth, and so are destinations and routes of the same name. Everything else is
  replaced, also lists.
- `retry = false`, `breaker = false`, `pool = false` and `tls = false` replace the table of an earlier file, and a table in a later
  one then starts from what is inherited.
- Inside one file, a key or table that is there twice is an error.
- Errors are told for all files at once, and a contradiction between two of them shows both places. Whether
  something contradicts is decided by the result: a later file may repair what an earlier one says.
- `[defaults]` of every file hold for the destinations of all.
";

const MATCHING: &str = "\
### Which destination wins

A destination matches when every kind of key that it states matches: `cidrs` and `ports` the original
destination, `hosts` the Host of an HTTP request, `sni` the server name of a TLS handshake. A destination
with names needs a name: a flow without one, or with one of the other kind, does not match. (If both
`hosts` and `sni` are stated, either is enough, since a flow has one or the other.)

A flow that gives no name, because it is neither HTTP nor a TLS handshake with a server name, is matched by `hosts` with
the name that the app asked DNS for when it got the address, where DNS goes by way of dragoman: docs/dns.md.

Of those that match, the most specific wins, compared in this order:

1. an exact name, then the longer wildcard, then no name;
2. the longer prefix in `cidrs`, then none;
3. the narrower range in `ports`, then none;
4. the name of the destination, in alphabetical order.

What matches none belongs to the destination without any match key; there may be one of those, and if there
is none, it is `default`, whose policy is `[defaults]`. Names are what a client claims: an app can send any
Host to any address, so a rule by name steers traffic but does not fence it in.
";

const ROUTES: &str = "\
A `breaker` here is the route's own: it starts from the settings of the destination's, counts the requests of
the route alone, and takes the place of the destination's for them.

### Which route wins

A route matches when every key that it states matches: of `hosts` and `methods` one, of `match_headers` and
`query` all. Of the routes that match, the most specific wins, compared in this order:

1. an exact path, then a template (more literal segments first), then a prefix (the longer first, then more
   literal segments), then no path;
2. an exact host, then the longer wildcard, then no host; of several `hosts`, the one that matched counts;
3. one with `methods`, then one without;
4. the one with more entries in `match_headers` and `query` together;
5. the one with more values other than `\"*\"` among them;
6. the name of the route, in alphabetical order.

Paths are compared as they are sent, without the query: case matters, and neither `%2F` nor `//` nor `..` is
interpreted. `/v1/*` matches `/v1/` and all below it, not `/v1`; `{id}` stands for one segment that is not
empty. So are the names and values of `query`: `%41` is not `A`, nor `+` a space, and of several parameters
of one name the first counts.

How long it takes to find a route does not depend on how many there are, but on how many kinds there are:
which keys they state, how many segments their paths have, and where the placeholders stand.
";

const ENVIRONMENT: &str = "\
## Environment

These variables override the files, for where a pod specification is easier to change than a file, or knows better. What a
destination says itself still wins over `[defaults]`. An empty variable is ignored.
";

/// The reference of the file format, in Markdown: `docs/configuration.md`.
pub fn reference() -> String {
    let root = Root::all_keys();
    let mut page = String::from(INTRODUCTION);
    for key in &root {
        match key.name {
            "defaults" => {
                section(&mut page, "[defaults]", key.doc, &key.keys);
                subtables(&mut page, "", &key.keys);
            }
            "destination" => destination(&mut page, key),
            name if key.is_named => section(&mut page, &format!("[{name}.NAME]"), key.doc, &key.keys),
            name => {
                section(&mut page, &format!("[{name}]"), key.doc, &key.keys);
                subtables(&mut page, &format!("{name}."), &key.keys);
            }
        }
    }
    page.push_str(&format!("\n{FILES}\n{ENVIRONMENT}\n| Variable | Key | Notes |\n|---|---|---|\n"));
    for variable in &VARIABLES {
        page.push_str(&format!("| `{}` | `{}` | {} |\n", variable.name, variable.key, variable.doc));
    }
    page
}

fn destination(page: &mut String, destination: &Key) {
    section(page, "[destination.NAME]", destination.doc, &Match::all_keys());
    let inherited = names(&Defaults::all_keys());
    page.push_str(&format!(
        "\nEach key of `[defaults]` may stand here too, and then overrides it: {inherited}.\n\n{MATCHING}"
    ));
    for route in destination.keys.iter().filter(|key| key.name == "route") {
        let own = RouteMatch::all_keys();
        section(page, "[destination.NAME.route.NAME]", route.doc, &own);
        let policy = route.keys.iter().filter(|key| own.iter().all(|other| other.name != key.name));
        let policy = names(policy);
        page.push_str(&format!(
            "\nThese may stand here too, and then override the destination's: {policy}.\n\n{ROUTES}"
        ));
    }
}

/// A heading for each table inside `keys`, at any depth.
fn subtables(page: &mut String, path: &str, keys: &[Key]) {
    for key in keys.iter().filter(|key| !key.keys.is_empty()) {
        let path = format!("{path}{}{}", key.name, if key.is_named { ".NAME" } else { "" });
        page.push_str(&format!("\n### `{path}`\n\n{}\n\n", key.doc));
        table(page, &path, &key.keys);
        subtables(page, &format!("{path}."), &key.keys);
    }
}

fn section(page: &mut String, title: &str, about: &str, keys: &[Key]) {
    page.push_str(&format!("\n## `{title}`\n\n{about}\n\n"));
    table(page, title.trim_matches(['[', ']']), keys);
}

/// The keys of the table at the dotted path `of`.
fn table(page: &mut String, of: &str, keys: &[Key]) {
    let read_at_start = read_at_start();
    page.push_str("| Key | Type | Default | Meaning |\n|---|---|---|---|\n");
    for key in keys {
        let default = key.default.as_ref().map_or("not set".into(), |default| format!("`{default}`"));
        let restart = read_at_start.contains(&&*format!("{of}.{}", key.name));
        let mark = if restart { " **Restart.**" } else { "" };
        page.push_str(&format!("| `{}` | {} | {default} | {}{mark} |\n", key.name, key.kind, key.doc));
    }
}

fn names<'a>(keys: impl IntoIterator<Item = &'a Key>) -> String {
    let names: Vec<_> = keys.into_iter().map(|key| format!("`{}`", key.name)).collect();
    names.join(", ")
}
