//! Statuses of gRPC.

use dragoman_policy::GrpcStatus;
use serde_json::json;

use crate::{
    read::{Fault, Item, Node, Reader, Value},
    schema::Json,
    suggest::nearest,
    value::quote,
};

/// A status by which a gRPC call says that it failed: any but `ok`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GrpcFailure(pub(crate) GrpcStatus);

impl Value for GrpcFailure {
    fn describe() -> String {
        "the name of a gRPC status that is a failure, as \"unavailable\"".into()
    }

    fn schema() -> Json {
        let failures = GrpcStatus::ALL.iter().copied().filter_map(failure);
        json!({ "enum": failures.map(|status| status.0.as_str()).collect::<Vec<_>>() })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        if let Some(number) = node.integer() {
            let fault = Fault::new("this is an integer");
            let status = u32::try_from(number).ok().and_then(GrpcStatus::from_number).and_then(failure);
            reader.mismatch::<Self>(
                node,
                match status {
                    Some(status) => fault.help(format!("the name of {number} is {}", status.toml())),
                    None => fault,
                },
            );
            return None;
        }
        reader.text(node, parse)
    }

    fn toml(&self) -> String {
        quote(self.0.as_str())
    }
}

impl Item for GrpcFailure {
    fn plural() -> String {
        "names of gRPC statuses, as \"unavailable\"".into()
    }
}

fn parse(text: &str) -> Result<GrpcFailure, Fault> {
    let words = || GrpcStatus::ALL.iter().map(|status| status.as_str());
    match GrpcStatus::ALL.iter().copied().find(|status| status.as_str() == text) {
        Some(status) => failure(status).ok_or_else(|| Fault::new("is not a failure")),
        None => Err(match nearest(text, words()) {
            Some(near) => Fault::new("not a gRPC status").help(format!("did you mean \"{near}\"?")),
            None => Fault::new("not a gRPC status")
                .help(format!("the names are {}", words().skip(1).collect::<Vec<_>>().join(", "))),
        }),
    }
}

fn failure(status: GrpcStatus) -> Option<GrpcFailure> {
    (status != GrpcStatus::Ok).then_some(GrpcFailure(status))
}
