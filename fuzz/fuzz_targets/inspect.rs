#![no_main]

use folkmoot_mls::codec::Decode;
use folkmoot_mls::inspect::inspect;
use folkmoot_mls::message::{MessageHeader, MlsMessage};

// Whoever carries a message, whoever shows it and whoever reads it agree on whether it is one.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let message = MlsMessage::from_bytes(bytes);
    let to_a_group = matches!(
        message,
        Ok(MlsMessage::PublicMessage(_) | MlsMessage::PrivateMessage(_))
    );
    assert_eq!(MessageHeader::read(bytes).is_ok(), to_a_group);
    let shown = inspect(bytes);
    assert_eq!(shown.is_ok(), message.is_ok());
    if let Ok(shown) = shown {
        assert!(!shown.to_string().is_empty());
    }
});
