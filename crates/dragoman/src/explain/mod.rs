//! `dragoman explain`: the story of a flow or exchange that was, or what would be done for one that was not.

pub(crate) mod matching;

use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;

use dragoman_config::Config;
use serde::Serialize;

use crate::ask::{self, encoded};
use crate::check::{self, WRONG_INPUT};
use crate::cli::ExplainArguments;
use crate::flows::{Page, tale};
use crate::logging;
use crate::plain::{ascii_json, plain};
use crate::reload::Files;
use matching::{Matching, Question};

/// How `dragoman explain` ends without an answer.
#[derive(Debug)]
enum Unanswered {
    /// There is no such story, or nobody to ask.
    NotFound(String),
    /// The command line is wrong.
    Usage(String),
}

/// Runs `dragoman explain`: 0 where there was an answer, 1 where there was none, 2 for a wrong question.
pub(crate) fn run(arguments: &ExplainArguments) -> ExitCode {
    let answer = match (&arguments.target, arguments.last) {
        (Some(target), None) => match Target::of(target, arguments) {
            Ok(Target::Recorded(id)) => stories(arguments, &format!("id={}", encoded(&id)), &id),
            Ok(Target::Imagined(question)) => match &arguments.config[..] {
                [] => imagine_there(arguments, &question),
                paths => match Files::load(paths) {
                    Ok((_, config)) => imagine_here(arguments, &question, &config),
                    Err(errors) => return check::refuse(&errors),
                },
            },
            Err(error) => Err(Unanswered::Usage(error)),
        },
        (_, last) => {
            let last = last.unwrap_or(1);
            stories(arguments, &format!("last={last}"), "anything")
        }
    };
    match answer {
        Ok(text) => {
            // A reader that has gone has seen enough.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(Unanswered::NotFound(error)) => {
            eprintln!("dragoman: {}", plain(&error));
            ExitCode::FAILURE
        }
        Err(Unanswered::Usage(error)) => {
            eprintln!("dragoman: {}", plain(&error));
            ExitCode::from(WRONG_INPUT)
        }
    }
}

/// What is asked about.
#[derive(Debug, PartialEq)]
enum Target {
    /// A flow, an exchange, or an `x-request-id`.
    Recorded(String),
    /// A request, or a connection, that nobody has made.
    Imagined(Question),
}

impl Target {
    fn of(target: &str, arguments: &ExplainArguments) -> Result<Target, String> {
        let is_request =
            arguments.method.is_some() || arguments.path.is_some() || !arguments.header.is_empty();
        if let Some((scheme, rest)) = target.split_once("://") {
            return match scheme {
                "http" => request(rest, arguments).map(Target::Imagined),
                "https" => {
                    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                    let (host, address) = address(authority, 443, arguments)?;
                    let sni = host.parse::<std::net::IpAddr>().is_err().then_some(host);
                    Ok(Target::Imagined(Question { address: Some(address), sni, ..Question::default() }))
                }
                _ => Err(format!("{scheme}: only http and https URLs can be explained")),
            };
        }
        if is_request {
            return request(target, arguments).map(Target::Imagined);
        }
        let has_port = target.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !has_port {
            return Ok(Target::Recorded(target.to_owned()));
        }
        let (_, address) = address(target, 0, arguments)?;
        Ok(Target::Imagined(Question { address: Some(address), ..Question::default() }))
    }
}

/// `HOST[:PORT][/PATH[?QUERY]]`
fn request(text: &str, arguments: &ExplainArguments) -> Result<Question, String> {
    let text = text.split('#').next().unwrap_or_default();
    let (authority, target) = text.find(['/', '?']).map_or((text, ""), |at| text.split_at(at));
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let target = arguments.path.as_deref().unwrap_or(target);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (_, address) = address(authority, 80, arguments)?;
    let headers =
        arguments.header.iter().map(|header| matching::header(header)).collect::<Result<Vec<_>, _>>()?;
    // A Host field of its own is what the app would say, whatever it dials.
    let own = headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.clone());
    Ok(Question {
        address: Some(address),
        sni: None,
        method: Some(arguments.method.clone().unwrap_or_else(|| "GET".to_owned())),
        host: own.unwrap_or_else(|| authority.to_owned()),
        path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        query: query.to_owned(),
        headers,
    })
}

/// The host of `HOST[:PORT]`, and the address that an app would dial for it.
fn address(authority: &str, port: u16, arguments: &ExplainArguments) -> Result<(String, SocketAddr), String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, text)) if !text.ends_with(']') => {
            (host, text.parse().map_err(|_| format!("{authority}: {text:?} is not a port"))?)
        }
        _ => (authority, port),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Some(ip) = arguments.address {
        return Ok((host.to_owned(), SocketAddr::new(ip, port)));
    }
    let mut found = (host, port).to_socket_addrs().map_err(|error| {
        format!("{host}: no address ({error}); --address says which one the program would dial")
    })?;
    found.next().map(|address| (host.to_owned(), address)).ok_or_else(|| format!("{host}: no address"))
}

fn stories(arguments: &ExplainArguments, query: &str, what: &str) -> Result<String, Unanswered> {
    let answer =
        ask::ask(&arguments.control.at(), &format!("/flows?why&{query}")).map_err(Unanswered::NotFound)?;
    let page: Page = parsed(&answer)?;
    if page.stories.is_empty() {
        return Err(Unanswered::NotFound(tale::absent(&page, what)));
    }
    if arguments.json {
        return Ok(json(&page.stories));
    }
    let color = logging::color(&io::stdout());
    let tales: Vec<_> = page.stories.iter().map(|told| tale::tell(told, color)).collect();
    Ok(tales.join("\n"))
}

fn imagine_there(arguments: &ExplainArguments, question: &Question) -> Result<String, Unanswered> {
    let path = format!("/explain?{}", question.to_query());
    let answer = ask::ask(&arguments.control.at(), &path).map_err(|error| {
        Unanswered::NotFound(format!("{error}; --config FILE explains by a file, without a proxy"))
    })?;
    Ok(imagined(arguments, &parsed(&answer)?))
}

fn imagine_here(
    arguments: &ExplainArguments,
    question: &Question,
    config: &Config,
) -> Result<String, Unanswered> {
    let matching = question.ask(config).map_err(Unanswered::Usage)?;
    Ok(imagined(arguments, &matching))
}

fn imagined(arguments: &ExplainArguments, matching: &Matching) -> String {
    if arguments.json { json(matching) } else { tale::tell_matching(matching, logging::color(&io::stdout())) }
}

fn parsed<T: serde::de::DeserializeOwned>(answer: &[u8]) -> Result<T, Unanswered> {
    serde_json::from_slice(answer)
        .map_err(|error| Unanswered::NotFound(format!("not an answer of a proxy: {error}")))
}

fn json(value: &impl Serialize) -> String {
    ascii_json(&serde_json::to_string_pretty(value).unwrap_or_default()) + "\n"
}
