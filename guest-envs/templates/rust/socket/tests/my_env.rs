//! The env natively, without wasm and without the host.
//! `rollcage check . --grants grants.toml` looks at much more.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::{Value, from_str};
use rollcage_sdk::testing::Native;

use my_env::MyEnv;

/// An env whose server is a thread of this test: it answers as `answer` says, and ends at `None`.
fn play(answer: fn(Value) -> Option<String>) -> Native<MyEnv> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the env");
        for line in BufReader::new(stream.try_clone().expect("a second handle")).lines() {
            let question = from_str(&line.expect("a line")).expect("a question");
            let Some(answer) = answer(question) else {
                break;
            };
            stream
                .write_all(format!("{answer}\n").as_bytes())
                .expect("the env is there");
        }
    });
    Native::new(&format!(r#"{{"port": {port}}}"#)).expect("a server")
}

/// A server whose number is always 42.
fn forty_two(question: Value) -> Option<String> {
    let order = question["guess"]
        .as_i64()
        .map(|guess| (guess - 42).signum());
    Some(order.map_or("{}".to_owned(), |order| format!(r#"{{"answer": {order}}}"#)))
}

#[test]
fn the_number_is_found() {
    let mut env = play(forty_two);
    env.reset(Some(1), None).expect("a reset");
    let (mut low, mut high) = (0, 99);
    for _ in 0..7 {
        let guess = (low + high) / 2;
        let step = env.step(guess).expect("a step");
        match step.observation[0] {
            0 => low = guess + 1,
            1 => {
                assert_eq!((guess, step.reward, step.terminated), (42, 1.0, true));
                return;
            }
            _ => high = guess - 1,
        }
    }
    panic!("seven guesses are enough");
}

#[test]
fn an_episode_has_twelve_guesses() {
    let mut env = play(forty_two);
    env.reset(Some(1), None).expect("a reset");
    let ends: Vec<bool> = (0..12)
        .map(|_| env.step(7).expect("a step").truncated)
        .collect();
    assert_eq!(ends.iter().position(|&end| end), Some(11));
}

#[test]
fn a_server_that_goes_or_talks_nonsense_is_an_error() {
    let mut env = play(|_| None);
    let error = env.reset(Some(1), None).expect_err("nobody answers");
    let gone = EnvError::failed("the server has closed the connection");
    assert_eq!(error, gone);
    let mut env = play(|_| Some(r#"{"answer": 7}"#.to_owned()));
    env.reset(Some(1), None).expect("a reset");
    let error = env.step(0).expect_err("no answer");
    let nonsense = EnvError::failed("the server's answer is not -1, 0 or 1");
    assert_eq!(error, nonsense);
}

#[test]
fn a_missing_server_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let config = format!(r#"{{"port": {port}}}"#);
    let Err(CreateError::Failed(message)) = Native::<MyEnv>::new(&config) else {
        panic!("somebody answers")
    };
    assert!(
        message.starts_with(&format!("no server at 127.0.0.1, port {port}: ")),
        "{message}"
    );
}
