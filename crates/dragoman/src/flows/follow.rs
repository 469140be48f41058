//! The stream of stories as they end, one JSON object a line.
//!
//! A reader that is slow makes this slow, and nothing else: the recorder goes on, and what it has overwritten meanwhile is
//! told as a number.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use dragoman_telemetry::{Follower, Telemetry};
use hyper::body::{Body, Frame};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Told;
use super::filter::Filter;

/// How often the recorder is looked at.
const PERIOD: Duration = Duration::from_millis(100);
/// An empty line is written after so many looks without a story: one that is gone is noticed by that.
const QUIET: u32 = 50;

/// A line of the stream.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Line {
    /// So many stories were overwritten before they were read.
    Lost {
        lost: u64,
    },
    Told(Box<Told>),
}

/// The body of the answer.
#[derive(Debug)]
pub(crate) struct Stream {
    telemetry: Telemetry,
    follower: Follower,
    filter: Filter,
    interval: Interval,
    quiet: u32,
    /// What is there already, and the leave to be one of the few that follow.
    first: Option<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Stream {
    /// What ends from now on. `None` where the recorder is off.
    pub(crate) fn new(telemetry: Telemetry, filter: Filter, permit: OwnedSemaphorePermit) -> Option<Stream> {
        let follower = telemetry.follow()?;
        let mut interval = interval(PERIOD);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Something at once: whoever asks knows then that from here on nothing is missed.
        let first = Some(Bytes::from_static(b"\n"));
        Some(Stream { telemetry, follower, filter, interval, quiet: 0, first, _permit: permit })
    }

    fn look(&mut self) -> Option<Bytes> {
        let (stories, lost) = self.telemetry.followed(&mut self.follower);
        let stories = stories.into_iter().filter(|story| self.filter.matches(story));
        let told = stories.map(|story| Line::Told(Box::new(Told { story, matching: None })));
        let lost = (lost > 0).then_some(Line::Lost { lost });
        let mut text = String::new();
        for line in lost.into_iter().chain(told) {
            text += &serde_json::to_string(&line).unwrap_or_default();
            text.push('\n');
        }
        self.quiet = if text.is_empty() { self.quiet + 1 } else { 0 };
        if self.quiet == QUIET {
            self.quiet = 0;
            text.push('\n');
        }
        (!text.is_empty()).then(|| text.into())
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        loop {
            if self.interval.poll_tick(context).is_pending() {
                return Poll::Pending;
            }
            if let Some(bytes) = self.look() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }
}
