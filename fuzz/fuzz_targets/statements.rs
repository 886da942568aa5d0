#![no_main]

use folkmoot_fuzz::decodes_to_one_value;
use folkmoot_protocol::invitation::Invitation;
use folkmoot_protocol::log::{Append, Head, Open};
use folkmoot_protocol::plaintext::Plaintext;
use folkmoot_protocol::well_known::WellKnown;

// What is signed or hashed, what is inside of messages and invitations, and what a domain publishes.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    decodes_to_one_value::<Open>(bytes);
    decodes_to_one_value::<Append>(bytes);
    decodes_to_one_value::<Head>(bytes);
    decodes_to_one_value::<Invitation>(bytes);
    if let Ok(plaintext) = Plaintext::from_padded(bytes) {
        let again = Plaintext::from_padded(&plaintext.to_padded());
        assert!(again == Ok(plaintext));
    }
    if let Ok(published) = serde_json::from_slice::<WellKnown>(bytes) {
        let _ = published.issuers();
    }
});
