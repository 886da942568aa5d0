#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    folkmoot_fuzz::decodes_to_one_value::<folkmoot_mls::tree_pages::TreePage>(bytes);
});
