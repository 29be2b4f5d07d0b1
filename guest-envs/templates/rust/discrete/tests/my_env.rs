//! The env natively, without wasm and without the host. `rollcage check .` looks at much more.

use my_env::MyEnv;
use rollcage_sdk::testing::Native;

#[test]
fn the_right_end_is_reached() {
    let mut env = Native::<MyEnv>::new(r#"{"slip": 0}"#).expect("a config");
    let mut at = env.reset(Some(7), None).expect("a reset").observation;
    for _ in 0..8 {
        if at == 8 {
            break;
        }
        at = env.step(1).expect("a step").observation;
    }
    assert_eq!(at, 8);
}

#[test]
fn equal_seeds_are_equal_episodes() {
    let play = || {
        let mut env = Native::<MyEnv>::new("{}").expect("the defaults");
        env.reset(Some(3), None).expect("a reset");
        (0..5).map(|_| env.step(1).expect("a step").observation).collect::<Vec<_>>()
    };
    assert_eq!(play(), play());
}
