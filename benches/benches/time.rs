//! The time of each case: `cargo bench --profile counted -p dragoman-benches`, and a part of a name for some of them.

use criterion::{Criterion, criterion_group, criterion_main};
use dragoman_benches::CASES;

fn all(criterion: &mut Criterion) {
    for case in CASES {
        criterion.bench_function(case.name, |bencher| {
            let mut round = (case.prepare)();
            bencher.iter(&mut round);
        });
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
