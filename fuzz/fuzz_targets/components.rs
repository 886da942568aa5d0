#![no_main]

use folkmoot_fuzz::decodes_to_one_value;
use folkmoot_mls::component::{AppAck, ApplicationFraming, MediaTypeList, SafeAAD};

// What components of the application say: beside messages, in them, in the group's dictionary.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    decodes_to_one_value::<SafeAAD>(bytes);
    decodes_to_one_value::<ApplicationFraming>(bytes);
    decodes_to_one_value::<MediaTypeList>(bytes);
    decodes_to_one_value::<AppAck>(bytes);
});
