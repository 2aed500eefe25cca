//! What the fuzzer has found worth keeping, held against the same properties without a fuzzer.

use std::path::Path;

#[path = "../fuzz/src/classify.rs"]
mod classify;
#[path = "../fuzz/src/media.rs"]
mod media;

/// Checks every input of one corpus; the last name on stderr is that of the one that failed.
fn replay(corpus: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(corpus);
    let mut inputs: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty());
    for input in inputs {
        eprintln!("{}", input.display());
        check(&std::fs::read(&input).unwrap());
    }
}

#[test]
fn every_path_kept_from_the_fuzzer_makes_a_capture_whose_key_fits_and_is_read_back() {
    replay("classify", classify::check);
}

#[test]
fn every_file_kept_from_the_fuzzer_has_an_answer_to_whether_it_is_whole() {
    replay("media", media::check);
}
