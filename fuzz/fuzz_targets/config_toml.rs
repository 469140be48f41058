//! One or several configuration files are a model that prints as itself, or a list of mistakes that each have a place.
#![no_main]

use dragoman_config::{Config, Name, Secrets, Sources};
use libfuzzer_sys::fuzz_target;

/// What parts the input into files.
const NEXT_FILE: &str = "\n#---\n";

fuzz_target!(|text: &str| {
    let no_environment = |_: &str| None;
    let files: Vec<_> =
        text.split(NEXT_FILE).enumerate().map(|(index, text)| (index.to_string(), text)).collect();
    match Config::resolve(&files.iter().cloned().collect::<Sources>(), &no_environment) {
        Ok(config) => {
            let printed = config.print(Secrets::Shown);
            let again = Config::parse("printed.toml", &printed, &no_environment);
            let again = again.unwrap_or_else(|errors| panic!("{printed}\n{}", errors.render(false)));
            assert_eq!(meaning(&again.print(Secrets::Shown)), meaning(&printed));
            let address = ([192, 0, 2, 1], 443).into();
            let found = config.lookup(address, Name::Host("a.example"));
            assert!(found.index < config.destinations().len());
        }
        Err(errors) => {
            assert!(errors.count() > 0 && errors.count() == errors.iter().count());
            assert!(!errors.render(false).is_empty() && !errors.render(true).is_empty());
            for problem in errors.iter() {
                assert!(!problem.message().is_empty());
                let place = errors.position(problem).expect("there is no environment");
                let (_, text) = files.iter().find(|(name, _)| *name == place.file).expect("one of them");
                assert!(text.get(place.span.clone()).is_some(), "{place:?}: {}", problem.message());
            }
        }
    }
});

/// The text without its comments, which say where a value came from, and that is another file now.
fn meaning(printed: &str) -> String {
    let keys = printed.lines().filter(|line| !line.starts_with('#'));
    keys.map(|line| line.split(" # ").next().unwrap_or_default().trim_end()).collect::<Vec<_>>().join("\n")
}
