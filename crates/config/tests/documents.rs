//! What the guides show is what works.

use dragoman_config::Config;

const GUIDES: [(&str, &str); 2] = [
    ("app-tls.md", include_str!("../../../docs/app-tls.md")),
    ("identity.md", include_str!("../../../docs/identity.md")),
];

#[test]
fn every_configuration_in_a_guide_is_valid() {
    for (name, text) in GUIDES {
        let blocks: Vec<_> =
            text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!blocks.is_empty(), "{name} has none");
        for block in blocks {
            let read = Config::parse(name, block, &|_| None);
            assert!(
                read.is_ok(),
                "{name}:\n{block}\n{}",
                read.err().map(|it| it.render(false)).unwrap_or_default()
            );
        }
    }
}
