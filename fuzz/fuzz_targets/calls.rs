#![no_main]

use folkmoot_protocol::Refusal;
use folkmoot_protocol::call::{Answer, Call};

// Requests and answers of both services, the call by the first byte: what is read of them is encoded to
// what reads the same, and every request that costs tokens has a price.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((path, message)) = bytes.split_first() else {
        return;
    };
    let path = Call::PATHS[usize::from(*path) % Call::PATHS.len()];
    if let Ok(mut call) = Call::decode(path, message) {
        assert_eq!(call.path(), path);
        assert_eq!(Call::decode(path, &call.encode()).as_ref(), Ok(&call));
        if let Some(priced) = call.priced() {
            let price = priced.price();
            assert!((1..=1000).contains(&price.tokens));
            // Not by what is paid.
            *priced.payment() = None;
            assert_eq!(priced.price(), price);
        }
    }
    if let Ok(answer) = Answer::decode(path, message) {
        assert_eq!(Answer::decode(path, &answer.encode()), Ok(answer));
    }
    if let Some(refusal) = Refusal::from_bytes(message) {
        assert_eq!(Refusal::from_bytes(&refusal.to_bytes()), Some(refusal));
    }
});
