//! Creating, joining, updating and talking in groups of several sizes.

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use folkmoot_benches::{Member, key_package};

fn create(c: &mut Criterion) {
    let mut group = c.benchmark_group("create");
    group.sample_size(10);
    for members in [10, 100, 1000] {
        let packages: Vec<_> = (1..members)
            .map(|index| key_package(index).expect("a package").1)
            .collect();
        group.bench_function(BenchmarkId::from_parameter(members), |bencher| {
            bencher.iter(|| {
                let mut founder = Member::founder().expect("a group");
                founder
                    .add(packages.iter().map(|bundle| &bundle.key_package))
                    .expect("a commit")
            });
        });
    }
    group.finish();
}

fn update(c: &mut Criterion) {
    for members in [10, 100, 1000] {
        let (mut founder, mut last) = Member::pair(members).expect("a group");
        // From here on the founder's path is filled.
        let pending = founder.update().expect("a commit");
        let processed = last.process(&pending.message).expect("a valid commit");
        let folkmoot_mls::group::Processed::Commit { group, keys, .. } = processed else {
            panic!("a commit is one");
        };
        founder.merge(pending);
        (last.group, last.keys) = (group, keys);
        c.bench_function(&format!("update/create/{members}"), |bencher| {
            bencher.iter(|| founder.update().expect("a commit"));
        });
        c.bench_function(&format!("update/process/{members}"), |bencher| {
            // Each message can be opened once.
            bencher.iter_batched(
                || founder.update().expect("a commit").message,
                |message| last.process(&message).expect("a valid commit"),
                BatchSize::NumIterations(50),
            );
        });
    }
}

fn messages(c: &mut Criterion) {
    let (mut founder, mut last) = Member::pair(1000).expect("a group");
    c.bench_function("message/encrypt/100B", |bencher| {
        bencher.iter(|| founder.encrypt(&[7; 100]).expect("a message"));
    });
    c.bench_function("message/decrypt/100B", |bencher| {
        bencher.iter_batched(
            || founder.encrypt(&[7; 100]).expect("a message"),
            |message| last.keys.decrypt(&message).expect("a valid message"),
            BatchSize::NumIterations(100),
        );
    });
}

criterion_group!(benches, create, update, messages);
criterion_main!(benches);
