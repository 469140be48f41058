//! What a person should know of files that can be used, before it does harm: for `dragoman check`.
//!
//! What was read comes in, sentences about it come out; what cannot be read at all is not told of here.

use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::validity::{Validity, seconds, span, utc};

/// What is doubtful about the chain of an identity: its order, the dates of those after the first, and that it should have
/// been renewed.
pub fn chain(chain: &[CertificateDer<'_>], now: SystemTime) -> Vec<String> {
    let chain = parsed(chain);
    let mut doubts = out_of_date(&chain, 1, now);
    for (number, pair) in chain.windows(2).enumerate() {
        let (own, next) = (&pair[0], &pair[1]);
        if own.issuer().as_raw() != next.subject().as_raw() {
            doubts.push(format!(
                "its certificate {} is signed by `{}`, and the one after it is `{}`: the order is from the own \
                 certificate towards the root",
                number + 1,
                own.issuer(),
                next.subject()
            ));
        }
    }
    if let Some(own) = chain.first().map(Validity::of)
        && own.check(now).is_ok()
        && own.renewal() <= seconds(now)
    {
        let left = span(own.not_after - seconds(now));
        doubts.push(format!("should have been renewed: it expires in {left} ({})", utc(own.not_after)));
    }
    doubts
}

/// What is doubtful about a bundle of roots: their dates, which nobody asks for when they vouch.
pub fn roots(roots: &[CertificateDer<'_>], now: SystemTime) -> Vec<String> {
    out_of_date(&parsed(roots), 0, now)
}

/// Why revocation lists, each of which can be read, are not current: then whoever they are about is refused.
pub fn revocation_lists(lists: &[CertificateRevocationListDer<'_>], now: SystemTime) -> Vec<String> {
    let now = seconds(now);
    let stamp = |seconds: i64| u64::try_from(seconds).unwrap_or(0);
    let mut stale = Vec::new();
    for (number, der) in lists.iter().enumerate() {
        let Ok((_, list)) = CertificateRevocationList::from_der(der) else { continue };
        let what = format!("its revocation list {} (of `{}`)", number + 1, list.issuer());
        let (this, next) = (list.last_update().timestamp(), list.next_update().map(|time| time.timestamp()));
        if let Some(next) = next.map(stamp).filter(|next| *next < now) {
            let late = span(now - next);
            let times = format!("now {}, nextUpdate {}", utc(now), utc(next));
            stale.push(format!(
                "{what} expired {late} ago ({times}): all that it is about are refused until there is a newer one"
            ));
        } else if stamp(this) > now {
            let early = span(stamp(this) - now);
            let times = format!("now {}, thisUpdate {}", utc(now), utc(stamp(this)));
            stale.push(format!("{what} is from the future, by {early} ({times}): a clock is wrong"));
        }
    }
    stale
}

fn parsed<'a>(certificates: &'a [CertificateDer<'_>]) -> Vec<X509Certificate<'a>> {
    certificates.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1)).collect()
}

/// Those from the one with this index on that are not in date.
fn out_of_date(certificates: &[X509Certificate<'_>], from: usize, now: SystemTime) -> Vec<String> {
    let checked = certificates.iter().enumerate().skip(from).filter_map(|(index, certificate)| {
        let failure = Validity::of(certificate).check(now).err()?;
        Some(format!("its certificate {} (`{}`) {}", index + 1, certificate.subject(), failure.detail))
    });
    checked.collect()
}

#[cfg(test)]
mod tests;
