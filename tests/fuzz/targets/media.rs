//! Looks for a file whose end cannot be told. In `tests/fuzz`, with stable Rust and a C++ compiler:
//!
//! `cargo run --release --bin media -- corpus/media -dict=media.dict -max_len=4096 -max_total_time=600`
//!
//! What it finds is written here as `crash-HASH`; in `corpus/media` it becomes a test of `cargo test`. A corpus that
//! has grown is made small again into an empty folder: `-merge=1 NEW corpus/media`.
#![no_main]

#[path = "../src/media.rs"]
mod media;

libfuzzer_sys::fuzz_target!(|input: &[u8]| media::check(input));
