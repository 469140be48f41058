//! Choices among a few words.

use serde_json::json;

use crate::{
    read::{Fault, Item, Node, Reader, Value},
    schema::Json,
    suggest::nearest,
    value::quote,
};

/// Declares an enum that the file writes as one of a few words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every choice, in the order of the reference page.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that stands for it in the file.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl Word for $name {
            const WORDS: &[&str] = &[$($word),+];

            fn of(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|choice| choice.as_str() == word)
            }
        }

        impl Value for $name {
            fn describe() -> String {
                describe_words::<Self>()
            }

            fn schema() -> Json {
                json!({ "enum": <Self as Word>::WORDS })
            }

            fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
                read_word(node, reader)
            }

            fn toml(&self) -> String {
                quote(self.as_str())
            }
        }
    };
}

words! {
    /// How much of the process's own log is written.
    Level {
        /// What stops the process or a part of it.
        Error = "error",
        /// What a person should look at.
        Warn = "warn",
        /// The life of the process.
        Info = "info",
        /// What each flow decided.
        Debug = "debug",
        /// Each step.
        Trace = "trace",
    }
}

words! {
    /// How lines are written.
    Format {
        /// For a person.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

words! {
    /// Which flows and exchanges the access log tells of.
    Access {
        /// None.
        Off = "off",
        /// Those that failed.
        Failures = "failures",
        /// Each of them.
        All = "all",
    }
}

words! {
    /// What a destination speaks.
    Protocol {
        /// Found out from the first bytes.
        Auto = "auto",
        /// HTTP; anything else is refused.
        Http = "http",
        /// Bytes, relayed without a look at them.
        Opaque = "opaque",
    }
}

words! {
    /// The form in which a trace is begun.
    Propagation {
        /// `traceparent` (W3C Trace Context).
        W3c = "w3c",
        /// The single field `b3`.
        B3 = "b3",
        /// The fields `x-b3-…`.
        B3Multi = "b3multi",
    }
}

words! {
    /// What HTTP endpoints are spoken to in.
    UpstreamProtocol {
        /// What the app speaks.
        Auto = "auto",
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2.
        Http2 = "http2",
    }
}

/// A path, or "-" for standard output.
#[derive(Clone, Debug)]
pub(crate) struct FilePath(pub(crate) String);

impl Value for FilePath {
    fn describe() -> String {
        "a path, or \"-\" for standard output".into()
    }

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1 })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| match text {
            "" => Err(Fault::new("the path is empty")),
            _ if text.contains('\0') => Err(Fault::new("no path contains a NUL byte")),
            _ => Ok(Self(text.to_owned())),
        })
    }

    fn toml(&self) -> String {
        quote(&self.0)
    }
}

/// The path of a file to read, which must not depend on where the process was started.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AbsolutePath(pub(crate) String);

impl Value for AbsolutePath {
    fn describe() -> String {
        "an absolute path".into()
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^/" })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| match path_fault(text) {
            Some(fault) => Err(fault),
            None => Ok(Self(text.to_owned())),
        })
    }

    fn toml(&self) -> String {
        quote(&self.0)
    }
}

impl Item for AbsolutePath {
    fn plural() -> String {
        "absolute paths".into()
    }
}

/// Why this is no absolute path, if it is none.
pub(super) fn path_fault(text: &str) -> Option<Fault> {
    match text {
        _ if !text.starts_with('/') => Some(Fault::new("the path is not absolute")),
        _ if text.contains('\0') => Some(Fault::new("no path contains a NUL byte")),
        _ => None,
    }
}

/// The path of a Unix socket, or "off" for none.
#[derive(Clone, Debug)]
pub(crate) struct SocketPath(pub(crate) String);

/// The longest path that fits into an address, without its final NUL, in bytes (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

impl Value for SocketPath {
    fn describe() -> String {
        "an absolute path, or \"off\" for none".into()
    }

    fn schema() -> Json {
        // The bytes are at least as many as the characters, which are what a schema counts.
        json!({ "anyOf": [{ "const": "off" }, { "type": "string", "pattern": "^/", "maxLength": MAX_SOCKET_PATH }] })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| match text {
            "off" => Ok(Self(text.to_owned())),
            _ if !text.starts_with('/') => Err(Fault::new("the path is not absolute")),
            _ if text.contains('\0') => Err(Fault::new("no path contains a NUL byte")),
            _ if text.len() > MAX_SOCKET_PATH => {
                Err(Fault::new(format!("the path of a socket has at most {MAX_SOCKET_PATH} bytes")))
            }
            _ => Ok(Self(text.to_owned())),
        })
    }

    fn toml(&self) -> String {
        quote(&self.0)
    }
}

/// The name of a destination; whether there is one, only the whole file can tell.
#[derive(Clone, Debug)]
pub(crate) struct DestinationName(pub(crate) String);

impl Value for DestinationName {
    fn describe() -> String {
        "the name of a destination".into()
    }

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1 })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| Ok(Self(text.to_owned())))
    }

    fn toml(&self) -> String {
        quote(&self.0)
    }
}

/// A choice among a few words.
pub(crate) trait Word: Value {
    /// Every choice, in the order of the reference page.
    const WORDS: &[&str];
    /// The choice that the word stands for.
    fn of(word: &str) -> Option<Self>;
}

pub(super) fn describe_words<T: Word>() -> String {
    let quoted: Vec<_> = T::WORDS.iter().map(|word| quote(word)).collect();
    match quoted.split_last() {
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

pub(super) fn read_word<T: Word>(node: &Node<'_>, reader: &mut Reader) -> Option<T> {
    reader.text(node, |word| {
        T::of(word).ok_or_else(|| match nearest(word, T::WORDS.iter().copied()) {
            Some(near) => Fault::new("not one of them").help(format!("did you mean \"{near}\"?")),
            None => Fault::new("not one of them"),
        })
    })
}
