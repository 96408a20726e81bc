#![no_main]

#[path = "../../tests/vaultfs/fuzzed.rs"]
#[expect(dead_code, reason = "each target runs its function")]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzzed::v2(data);
});
