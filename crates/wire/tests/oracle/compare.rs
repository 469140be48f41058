//! How two readings of the same bytes compare.

use crate::reading::{End, Message, Reading};

/// How two readings of the same bytes compare.
#[derive(Debug, PartialEq)]
pub(crate) enum Comparison {
    Same,
    /// dragoman refuses what hyper takes, for this reason.
    Stricter(String),
    /// hyper refuses what dragoman takes, for this reason.
    Laxer(String),
    /// They find other messages in the same bytes.
    Framing(String),
}

/// Compares what dragoman reads with what hyper does.
pub(crate) fn compare(ours: &Reading, theirs: &Reading) -> Comparison {
    for (at, message) in ours.messages.iter().enumerate() {
        let Some(other) = theirs.messages.get(at) else { return missing(theirs, "a message is missing") };
        if message.head != other.head {
            return Comparison::Framing(format!("message {at} has another head"));
        }
        if !message.whole {
            return unfinished(ours, other, theirs);
        }
        if !other.whole {
            return missing(theirs, "a body has no end");
        }
        if message.body != other.body {
            return Comparison::Framing(format!("message {at} has another body"));
        }
    }
    let more = theirs.messages.len() > ours.messages.len();
    match (&ours.end, &theirs.end) {
        (End::Refused(_), End::Refused(_)) if !more => Comparison::Same,
        (End::Refused(why), _) => Comparison::Stricter(why.clone()),
        (End::Last, End::Clean) if !more => Comparison::Same,
        (End::Last, _) => Comparison::Stricter("bytes after a request that is the last".to_owned()),
        (_, _) if more => Comparison::Framing("there is one message more".to_owned()),
        // Nothing of this head has been forwarded, and it can still be refused.
        (End::CutInHead, End::Refused(_) | End::Clean | End::CutInHead) => Comparison::Same,
        (_, End::Refused(why)) => Comparison::Laxer(why.clone()),
        (ours, theirs) if ours == theirs => Comparison::Same,
        (ours, theirs) => {
            Comparison::Framing(format!("the end is {ours:?} to one and {theirs:?} to the other"))
        }
    }
}

/// hyper stopped where dragoman went on.
fn missing(theirs: &Reading, what: &str) -> Comparison {
    match &theirs.end {
        End::Refused(why) => Comparison::Laxer(why.clone()),
        end => Comparison::Framing(format!("{what}, and the end is {end:?}")),
    }
}

/// dragoman did not see the end of this body; `other` is the same message to hyper.
fn unfinished(ours: &Reading, other: &Message, theirs: &Reading) -> Comparison {
    match (&ours.end, &theirs.end) {
        (End::Refused(_), End::Refused(_)) if !other.whole => Comparison::Same,
        (End::Refused(why), _) => Comparison::Stricter(why.clone()),
        (_, End::Refused(why)) if !other.whole => Comparison::Laxer(why.clone()),
        (_, _) if other.whole => Comparison::Framing("a body ends only to hyper".to_owned()),
        _ => Comparison::Same,
    }
}
