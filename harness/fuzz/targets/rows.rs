#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| limosa_fuzz::rows(bytes));
