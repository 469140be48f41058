//! What several files of tests need.

use dragoman_config::{Config, Secrets, Sources};

/// What the files mean, without regard to where it is said and in which order; or what is wrong with them.
pub(crate) fn meaning(files: &[String]) -> Result<Vec<String>, Vec<String>> {
    let named = files.iter().enumerate().map(|(index, text)| (index.to_string(), text.as_str()));
    match Config::resolve(&named.collect::<Sources>(), &|_| None) {
        Ok(config) => {
            let printed = config.print(Secrets::Shown);
            let line = |line: &str| line.split(" # ").next().unwrap_or_default().trim_end().to_owned();
            let mut sections: Vec<_> =
                printed.split("\n\n").map(|section| section.lines().map(line).collect::<Vec<_>>()).collect();
            // Headers come in the order in which they were first stated, all else in that of the tables.
            sections.iter_mut().for_each(|section| section.sort());
            sections.sort();
            Ok(sections.concat())
        }
        Err(errors) => {
            let mut messages: Vec<_> = errors.iter().map(|problem| problem.message().to_owned()).collect();
            messages.sort();
            messages.dedup();
            Err(messages)
        }
    }
}
