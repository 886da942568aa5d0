//! Random histories against a model of a few lines: what each key may read, from every cursor.

use folkmoot_delivery_service::MemoryStore;
use folkmoot_protocol::delivery::read_response::End;
use proptest::prelude::*;

use crate::world::World;

#[derive(Clone, Copy, Debug)]
enum Step {
    Message,
    Proposal,
    Commit { cut: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Message),
        1 => Just(Step::Proposal),
        2 => any::<bool>().prop_map(|cut| Step::Commit { cut }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_key_reads_from_its_epoch_through_the_first_cut(
        steps in proptest::collection::vec(step(), 0..25)
    ) {
        let mut world = World::new(MemoryStore::new());
        let mut group = world.group();
        // Of each epoch its start; of each cut its epoch and sequence.
        let (mut starts, mut cuts) = (vec![0], Vec::new());
        for (number, step) in (1..).zip(&steps) {
            world.now += 1;
            let body = [number as u8];
            let head = match step {
                Step::Message => world.message(&mut group, &body),
                Step::Proposal => world.proposal(&mut group, &body),
                Step::Commit { cut } => {
                    if *cut {
                        cuts.push((group.epoch, number));
                    }
                    starts.push(number);
                    world.commit(&mut group, *cut)
                }
            };
            prop_assert_eq!(head.sequence, number);
        }
        let last = steps.len() as u64;
        for (epoch, start) in (0..).zip(&starts) {
            let cut = cuts.iter().find(|(of, _)| *of >= epoch).map(|(_, sequence)| *sequence);
            let through = cut.unwrap_or(last);
            for after in 0..=last + 1 {
                let read = world.read(&group, epoch, after);
                let expected: Vec<u64> = (after.max(*start) + 1..=through).collect();
                prop_assert_eq!(read.sequences, expected);
                prop_assert_eq!(read.end, if cut.is_some() { End::Cut } else { End::Head });
                prop_assert_eq!(read.head.unwrap().sequence, through);
            }
        }
    }
}
