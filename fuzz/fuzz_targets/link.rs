#![no_main]

use folkmoot_fuzz::decodes_to_one_value;
use folkmoot_mls::codec::Decode;
use folkmoot_protocol::door::{Door, Link};

// What people paste. A link has one text; and what a link could say, if its checksum were right, is one
// or is refused.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(link) = text.parse::<Link>()
    {
        assert_eq!(link.to_string(), text.trim());
    }
    decodes_to_one_value::<Door>(bytes);
    decodes_to_one_value::<Link>(bytes);
    if let Ok(link) = Link::from_bytes(bytes)
        && let Ok(read) = link.to_string().parse::<Link>()
    {
        assert_eq!(read, link);
    }
});
