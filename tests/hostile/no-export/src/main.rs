//! Goal: be started as an env without being one.
//! Method: a program: a component that exports `wasi:cli/run` and no `rollcage:env/environment`.

fn main() {
    println!("no env here");
}
