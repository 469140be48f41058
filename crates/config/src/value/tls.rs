//! What TLS is told: whom to trust, who a peer must be, and what is spoken.

use std::net::IpAddr;
use std::path::PathBuf;

use data_encoding::BASE64;
use dragoman_policy::SpiffePattern;
use serde_json::json;

use crate::{
    model::{PeerPattern, RootSource, TlsVersion},
    read::{Fault, Item, Node, Reader, Value},
    schema::{Json, text},
    value::{
        name::{NamePattern, parse as parse_name},
        quote,
        word::{AbsolutePath, Word, describe_words, path_fault, read_word},
    },
};

/// What begins a pin.
const SHA256: &str = "sha256/";
/// What begins the name of a client by its DNS SAN.
const DNS: &str = "dns:";

/// Where trusted roots are from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trusted(pub(crate) RootSource);

impl Value for Trusted {
    fn describe() -> String {
        "\"webpki\", \"system\" or the absolute path of a PEM file".into()
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "enum": ["webpki", "system"] }, AbsolutePath::schema()] })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| match text {
            "webpki" => Ok(Self(RootSource::Webpki)),
            "system" => Ok(Self(RootSource::System)),
            _ => match path_fault(text) {
                None => Ok(Self(RootSource::Pem(PathBuf::from(text)))),
                Some(_) if !text.contains('/') => Err(Fault::new("neither one of the words nor a path")),
                Some(fault) => Err(fault),
            },
        })
    }

    fn toml(&self) -> String {
        match &self.0 {
            RootSource::Webpki => quote("webpki"),
            RootSource::System => quote("system"),
            RootSource::Pem(path) => quote(&path.to_string_lossy()),
        }
    }
}

impl Item for Trusted {
    fn plural() -> String {
        "\"webpki\", \"system\" and absolute paths of PEM files".into()
    }
}

/// The SHA-256 of a SubjectPublicKeyInfo.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pin(pub(crate) [u8; 32]);

impl Value for Pin {
    fn describe() -> String {
        "a pin: `sha256/` and the SHA-256 of a SubjectPublicKeyInfo in Base64".into()
    }

    fn schema() -> Json {
        text("^sha256/[A-Za-z0-9+/]{43}=$")
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| {
            let Some(digest) = text.strip_prefix(SHA256) else {
                return Err(
                    Fault::new("does not begin with `sha256/`").help("there are no pins of another kind")
                );
            };
            let bytes = BASE64.decode(digest.as_bytes()).map_err(|_| Fault::new("not Base64"))?;
            let length = bytes.len();
            <[u8; 32]>::try_from(bytes)
                .map(Self)
                .map_err(|_| Fault::new(format!("{length} bytes, where a SHA-256 has 32")))
        })
    }

    fn toml(&self) -> String {
        quote(&format!("{SHA256}{}", BASE64.encode(&self.0)))
    }
}

impl Item for Pin {
    fn plural() -> String {
        "pins, each `sha256/` and the SHA-256 of a SubjectPublicKeyInfo in Base64".into()
    }
}

/// A SPIFFE ID, or all below a path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spiffe(pub(crate) SpiffePattern);

impl Value for Spiffe {
    fn describe() -> String {
        "a SPIFFE ID, as \"spiffe://shop.test/ns/pay/sa/api\", or \"spiffe://shop.test/ns/pay/*\" for all below"
            .into()
    }

    fn schema() -> Json {
        text("^spiffe://")
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| parse_spiffe(text).map(Self))
    }

    fn toml(&self) -> String {
        quote(&self.0.to_string())
    }
}

impl Item for Spiffe {
    fn plural() -> String {
        "SPIFFE IDs, as \"spiffe://shop.test/ns/pay/sa/api\" or \"spiffe://shop.test/ns/pay/*\"".into()
    }
}

fn parse_spiffe(text: &str) -> Result<SpiffePattern, Fault> {
    SpiffePattern::parse(text).map_err(|fault| match text {
        _ if text.contains('*') => Fault::new("a star stands only for the end of a path, as `/ns/pay/*`"),
        _ => Fault::new(fault.0),
    })
}

/// Who a client must be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Peer(pub(crate) PeerPattern);

impl Value for Peer {
    fn describe() -> String {
        "a client, as \"spiffe://shop.test/ns/web/*\" or \"dns:web.shop.test\"".into()
    }

    fn schema() -> Json {
        text("^(spiffe://|dns:)")
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| match text.strip_prefix(DNS) {
            Some(name) => exact_name(name).map(|name| Self(PeerPattern::Dns(name.into()))),
            None if text.starts_with("spiffe:") => {
                parse_spiffe(text).map(|pattern| Self(PeerPattern::Spiffe(pattern)))
            }
            None => Err(match parse_name(text) {
                Ok(_) => Fault::new("does not say of what kind it is").help(format!("write \"dns:{text}\"")),
                Err(_) => Fault::new("begins with neither `spiffe://` nor `dns:`"),
            }),
        })
    }

    fn toml(&self) -> String {
        match &self.0 {
            PeerPattern::Spiffe(pattern) => quote(&pattern.to_string()),
            PeerPattern::Dns(name) => quote(&format!("{DNS}{name}")),
        }
    }
}

impl Item for Peer {
    fn plural() -> String {
        "clients, as \"spiffe://shop.test/ns/web/*\" or \"dns:web.shop.test\"".into()
    }
}

/// What a server is asked for, and its certificate has to say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServerName(pub(crate) String);

impl Value for ServerName {
    fn describe() -> String {
        "a name, as \"pay.example.com\", or an IP address".into()
    }

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1 })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self(address.to_canonical().to_string())),
            Err(_) => exact_name(text).map(Self),
        })
    }

    fn toml(&self) -> String {
        quote(&self.0)
    }
}

fn exact_name(text: &str) -> Result<String, Fault> {
    match parse_name(text) {
        Ok(NamePattern::Exact(name)) => Ok(name),
        Ok(NamePattern::Below(_)) => Err(Fault::new("a pattern").help("give one name")),
        Err(fault) => Err(fault.help("give the name alone")),
    }
}

/// Declares how the choices of an enum are written.
macro_rules! written {
    ($name:ident { $($variant:ident = $word:literal,)+ }) => {
        impl Word for $name {
            const WORDS: &[&str] = &[$($word),+];

            fn of(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl Value for $name {
            fn describe() -> String {
                describe_words::<Self>()
            }

            fn schema() -> Json {
                json!({ "enum": Self::WORDS })
            }

            fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
                if node.value.is_float() {
                    let fault = Fault::new("this is a number").help("write it in quotes");
                    reader.mismatch::<Self>(node, fault);
                    return None;
                }
                read_word(node, reader)
            }

            fn toml(&self) -> String {
                quote(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }
    };
}

/// What becomes of connections to the app that are not TLS.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum InboundMode {
    /// They are refused.
    Strict,
    /// They are passed on.
    Permissive,
}

written! { InboundMode { Strict = "strict", Permissive = "permissive", } }
written! { TlsVersion { V1_2 = "1.2", V1_3 = "1.3", } }
