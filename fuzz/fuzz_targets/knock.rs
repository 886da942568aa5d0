#![no_main]

use std::sync::LazyLock;

use folkmoot_fuzz::decodes_to_one_value;
use folkmoot_protocol::door::{Door, DoorKeys, Knock};
use folkmoot_protocol::sealed::{open_envelope, seal_knock};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

static DOOR: LazyLock<(DoorKeys, Door)> = LazyLock::new(|| {
    let keys = DoorKeys::derive(&[7; 32]);
    let door = keys.door().expect("a door");
    (keys, door)
});

// What strangers drop at a door: as it comes, and sealed as it should be, whatever is in it.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (keys, door) = &*DOOR;
    decodes_to_one_value::<Knock>(bytes);
    assert!(Knock::open(keys, bytes).is_err());
    let _ = open_envelope(1, &keys.key, bytes);
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    if let Ok(envelope) = seal_knock(&door.key, bytes, &mut rng)
        && let Ok((knock, signature)) = Knock::open(keys, &envelope)
    {
        assert_eq!(knock.door, keys.mailbox());
        let _ = knock.verify(&keys.owner.public(), &signature);
    }
});
