use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::files::Contents;

/// The digest of a file that does not exist, by its name: any value will do here.
fn digest(number: usize) -> Digest {
    let names = ["/nowhere/0", "/nowhere/1", "/nowhere/2", "/nowhere/3"];
    let paths = &names[..number];
    Contents::read([]).digest(paths.iter().map(Path::new))
}

#[test]
fn what_does_not_change_asks_for_nothing() {
    let mut watch = Watch::new(digest(0));
    for _ in 0..3 {
        assert_eq!(watch.look(digest(0)), Look::Same);
    }
}

#[test]
fn what_is_new_is_tried_when_it_has_come_to_rest() {
    let mut watch = Watch::new(digest(0));
    assert_eq!(watch.look(digest(1)), Look::Again);
    assert_eq!(watch.look(digest(2)), Look::Again, "the second file has come meanwhile");
    assert_eq!(watch.look(digest(2)), Look::Try);
    watch.accepted();
    assert_eq!(watch.look(digest(2)), Look::Same);
    assert!(!watch.is_refused());
}

#[test]
fn what_cannot_be_used_is_news_once_and_tried_at_each_look() {
    let mut watch = Watch::new(digest(0));
    watch.look(digest(1));
    for news in [true, false, false] {
        assert_eq!(watch.look(digest(1)), Look::Try);
        assert_eq!(watch.refused(), news);
        assert!(watch.is_refused());
    }
    assert_eq!(watch.look(digest(2)), Look::Again);
    assert_eq!(watch.look(digest(2)), Look::Try);
    assert!(watch.refused(), "another thing that is wrong is news");
    watch.look(digest(3));
    assert_eq!(watch.look(digest(3)), Look::Try);
    watch.accepted();
    assert_eq!(watch.look(digest(3)), Look::Same);
}

#[test]
fn files_that_come_back_are_told_of_only_if_their_absence_was() {
    let mut watch = Watch::new(digest(0));
    assert_eq!(watch.look(digest(1)), Look::Again);
    assert_eq!(watch.look(digest(0)), Look::Same, "gone for less than two looks");
    assert_eq!(watch.look(digest(0)), Look::Same);

    watch.look(digest(1));
    assert_eq!(watch.look(digest(1)), Look::Try);
    watch.refused();
    assert_eq!(watch.look(digest(0)), Look::Again);
    assert_eq!(watch.look(digest(0)), Look::Back);
    assert!(!watch.is_refused());
    assert_eq!(watch.look(digest(0)), Look::Same);
}

/// All ways through four looks: what is in force was either there at the start, or the same in two looks.
#[test]
fn nothing_is_tried_that_was_seen_once() {
    for looks in 0..4_usize.pow(4) {
        let mut watch = Watch::new(digest(0));
        let mut before = digest(0);
        for step in 0..4 {
            let now = digest(looks / 4_usize.pow(step) % 4);
            let look = watch.look(now);
            if look == Look::Try {
                assert_eq!(now, before, "in {looks} at {step}");
                watch.accepted();
            }
            before = now;
        }
    }
}

#[test]
fn an_identity_is_due_when_a_third_is_left() {
    let validity = Validity { not_before: 1000, not_after: 1900 };
    let at = |seconds| Age::at(validity, UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!([at(0), at(1000), at(1599)], [Age::Young; 3]);
    assert_eq!([at(1600), at(1900)], [Age::Due; 2]);
    assert_eq!([at(1901), at(u64::from(u32::MAX))], [Age::Expired; 2]);
}
