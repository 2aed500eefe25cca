//! Looks for a path that classification cannot cope with. In `tests/fuzz`, with stable Rust and a C++ compiler:
//!
//! `cargo run --release --bin classify -- corpus/classify -dict=classify.dict -max_len=700 -max_total_time=600`
//!
//! What it finds is written here as `crash-HASH`; in `corpus/classify` it becomes a test of `cargo test`. A corpus that
//! has grown is made small again into an empty folder: `-set_cover_merge=1 -use_counters=0 NEW corpus/classify`.
#![no_main]

#[path = "../src/classify.rs"]
mod classify;

libfuzzer_sys::fuzz_target!(|input: &[u8]| classify::check(input));
