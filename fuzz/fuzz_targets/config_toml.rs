//! A configuration file is a model that prints as itself, or a list of mistakes that each have a place.
#![no_main]

use dragoman_config::{Config, Name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let no_environment = |_: &str| None;
    match Config::parse("fuzz.toml", text, &no_environment) {
        Ok(config) => {
            let printed = config.print();
            let again = Config::parse("printed.toml", &printed, &no_environment);
            let again = again.unwrap_or_else(|errors| panic!("{printed}\n{}", errors.render(false)));
            assert_eq!(meaning(&again.print()), meaning(&printed));
            let address = ([192, 0, 2, 1], 443).into();
            let found = config.lookup(address, Name::Host("a.example"));
            assert!(found.index < config.destinations().len());
        }
        Err(errors) => {
            assert!(errors.count() > 0 && errors.count() == errors.iter().count());
            assert!(!errors.render(false).is_empty() && !errors.render(true).is_empty());
            for problem in errors.iter() {
                assert!(!problem.message().is_empty());
                let span = problem.span().unwrap_or_default();
                assert!(
                    text.get(span.clone()).is_some(),
                    "{span:?} is not in the text: {}",
                    problem.message()
                );
            }
        }
    }
});

/// The text without its comments, which say where a value came from, and that is another file now.
fn meaning(printed: &str) -> String {
    let keys = printed.lines().filter(|line| !line.starts_with('#'));
    keys.map(|line| line.split(" # ").next().unwrap_or_default().trim_end()).collect::<Vec<_>>().join("\n")
}
