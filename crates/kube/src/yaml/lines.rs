//! Which line of a text was which before something was taken out.

use super::layout::{Splice, line_starts};

/// The number that each line had before. Lines count from 1.
pub(crate) struct LinesBefore(Vec<usize>);

impl LinesBefore {
    /// Of the text `without` what these cuts, in order, took out of the one before, which is `with`.
    pub(super) fn new(with: &str, cuts: &[Splice], without: &str) -> Self {
        let (mut cuts, mut starts) = (cuts.iter().peekable(), line_starts(with).peekable());
        let (mut gone, mut come, mut line) = (0, 0, 0);
        let before = |start: usize| {
            while let Some(cut) = cuts.next_if(|cut| cut.at <= (start + gone).saturating_sub(come)) {
                gone += cut.old;
                come += cut.new.len();
            }
            while starts.next_if(|first| *first <= (start + gone).saturating_sub(come)).is_some() {
                line += 1;
            }
            line
        };
        LinesBefore(line_starts(without).map(before).collect())
    }

    /// The line before. What is behind the end was on the last one.
    pub(crate) fn of(&self, line: usize) -> usize {
        self.0.get(line.saturating_sub(1)).or(self.0.last()).copied().unwrap_or(line)
    }
}
