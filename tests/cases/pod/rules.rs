//! The rules in a pod's namespace are those that the plan of `dragoman-init` says, and there is nothing else.

use dragoman_harness::dragoman::init_in;
use dragoman_harness::pods::Node;
use dragoman_harness::{Namespace, Net, process};

use crate::{OBSERVE, app};

#[test]
fn the_rules_in_the_pod_are_exactly_the_plan() {
    let other = Net::new();
    for [annotations, options] in [
        ["", ""],
        [
            "  annotations:\n    dragoman.dev/exclude-ports: \"5432,6379\"\n    dragoman.dev/exclude-cidrs: 10.0.0.0/8,172.16.0.0/12,fc00::/16,fd00::/16\n",
            "--exclude-port 5432,6379 --exclude-cidr 10.0.0.0/8,172.16.0.0/12,fc00::/16,fd00::/16",
        ],
    ] {
        let node = Node::new();
        let manifest = app(OBSERVE, "Always", "exec sleep 600");
        let manifest = manifest.replace("  name: shop\n", &format!("  name: shop\n{annotations}"));
        let pod = node.play(&node.inject(&manifest, &[]));
        pod.ready();

        let plan = ["print"].into_iter().chain(options.split_whitespace());
        let plan = process::succeed(&mut init_in(&other.app, &plan.collect::<Vec<_>>()));
        other.app.succeed(&format!("nft flush ruleset\nnft -f - <<'END'\n{plan}\nEND"));
        assert_eq!(rules(pod.namespace()), rules(&other.app), "{options}");

        let verify = ["verify"].into_iter().chain(options.split_whitespace());
        let mut verify = init_in(pod.namespace(), &verify.collect::<Vec<_>>());
        process::succeed(&mut verify);
    }
}

/// All rules of a namespace, of any table, as `nft` says them.
fn rules(namespace: &Namespace) -> String {
    let rules = namespace.succeed("nft list ruleset");
    assert_eq!(rules.matches("table ").count(), 1, "there is another table: {rules}");
    rules
}
