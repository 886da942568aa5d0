#![no_main]

use folkmoot_mls::codec::Decode;
use folkmoot_mls::evidence::Evidence;
use folkmoot_mls::inspect::inspect;
use folkmoot_mls::message::{MessageHeader, MlsMessage};

// Whoever carries a message, whoever shows it and whoever reads it agree on whether it is one; evidence
// can be shown too.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let message = MlsMessage::from_bytes(bytes);
    let to_a_group = matches!(
        message,
        Ok(MlsMessage::PublicMessage(_) | MlsMessage::PrivateMessage(_))
    );
    assert_eq!(MessageHeader::read(bytes).is_ok(), to_a_group);
    let shown = inspect(bytes);
    let can_be_shown = message.is_ok() || Evidence::from_bytes(bytes).is_ok();
    assert_eq!(shown.is_ok(), can_be_shown);
    if let Ok(shown) = shown {
        assert!(!shown.to_string().is_empty());
    }
});
