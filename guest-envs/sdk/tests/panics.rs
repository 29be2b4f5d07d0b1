//! What a panic of a component prints. A hook holds for a whole process, so the panic is in one of its own.

use std::process::Command;

const CHILD: &str = "ROLLCAGE_SDK_TEST_PANICS";

#[test]
fn a_panic_prints_its_place_and_message_alone() {
    if std::env::var_os(CHILD).is_some() {
        rollcage_sdk::export::print_panics();
        panic!("the cart has {} wheels", 3);
    }
    let line = line!() - 2;
    let program = std::env::current_exe().expect("a program");
    let ran = Command::new(program)
        .args(["--exact", "a_panic_prints_its_place_and_message_alone", "--nocapture"])
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "1")
        .output()
        .expect("it starts");
    let said = String::from_utf8(ran.stderr).expect("a text");
    let (_, panic) = said.split_once("panicked at ").expect("a panic");
    let expected = format!("{}:{line}:9:\nthe cart has 3 wheels\n", file!());
    assert!(panic.starts_with(&expected), "{said}");
    assert!(!said.contains("note: ") && !said.contains("stack backtrace"), "{said}");
}
