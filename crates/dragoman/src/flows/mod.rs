//! What the flight recorder holds, as it is asked for and shown: the page `/flows` and its stream, the command
//! `dragoman flows`, and the table at the end of `dragoman run --explain`.

pub(crate) mod command;
pub(crate) mod filter;
pub(crate) mod follow;
mod row;
pub(crate) mod tale;

use dragoman_config::Config;
use dragoman_telemetry::{Story, Telemetry};
use serde::{Deserialize, Serialize};

use crate::explain::matching::{Matching, of_story};
use filter::Filter;

/// What `/flows` answers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Page {
    /// `None` where the recorder is off.
    pub(crate) recorder: Option<RecorderState>,
    /// The oldest first.
    pub(crate) stories: Vec<Told>,
}

/// How full the recorder is.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct RecorderState {
    pub(crate) memory: usize,
    pub(crate) used: usize,
    pub(crate) stories: u64,
    /// When the oldest of them ended.
    pub(crate) oldest: Option<String>,
}

/// A story, and why its destination and route matched by the policy of now.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    #[serde(flatten)]
    pub(crate) story: Story,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) matching: Option<Matching>,
}

/// The page with what passes this filter.
pub(crate) fn page(telemetry: &Telemetry, policy: &Config, filter: &Filter) -> String {
    let all = telemetry.stories();
    let recorder = telemetry.recorded().map(|held| RecorderState {
        memory: held.memory,
        used: held.used,
        stories: held.stories,
        oldest: all.first().map(|story| story.ended.clone()),
    });
    let mut chosen: Vec<_> = all.into_iter().filter(|story| filter.matches(story)).collect();
    if let Some(last) = filter.last {
        chosen.drain(..chosen.len().saturating_sub(last));
    }
    let tell = |story| {
        let matching = filter.why.then(|| of_story(policy, &story)).flatten();
        Told { story, matching }
    };
    let page = Page { recorder, stories: chosen.into_iter().map(tell).collect() };
    serde_json::to_string(&page).unwrap_or_default() + "\n"
}

/// A table of all that was recorded, the oldest first, and how much more there was: nothing where nothing was. Flows are
/// left out of which an exchange tells the same.
pub(crate) fn table(telemetry: &Telemetry, color: bool) -> String {
    let Some(held) = telemetry.recorded() else {
        return "dragoman: nothing to list: the flight recorder is off (recorder.memory = 0)\n".to_owned();
    };
    let all = telemetry.stories();
    let carriers: std::collections::HashSet<_> =
        all.iter().filter(|story| !story.flow.is_empty()).map(|story| story.flow.clone()).collect();
    let is_told = |story: &&Story| !(carriers.contains(&story.id) && story.cause.is_empty());
    let shown: Vec<_> = all.iter().filter(is_told).collect();
    let mut table = row::table(&shown, color);
    let more = held.ever.saturating_sub(all.len() as u64);
    if more > 0 {
        let memory = held.memory / 1024;
        table +=
            &format!("({more} more, most of them earlier, had no room in recorder.memory, {memory} KiB)\n");
    }
    table
}
