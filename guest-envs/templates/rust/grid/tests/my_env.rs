//! The env natively, without wasm and without the host. `rollcage check .` looks at much more.

use rollcage_sdk::prelude::*;
use rollcage_sdk::testing::Native;

use my_env::MyEnv;

fn maze(config: &str) -> Native<MyEnv> {
    // A component has its assets inside. Here they are those of this folder.
    rollcage_sdk::assets::use_folder(env!("CARGO_MANIFEST_DIR"));
    Native::new(config).expect("a config")
}

#[test]
fn the_key_opens_the_door() {
    let mut env = maze(r#"{"slip": 0}"#);
    let view = env.reset(Some(7), None).expect("a reset");
    assert_eq!(view.observation.has_key, 0);
    // Open moves at random lead to the key at last, and then to the door.
    let mut rng = NumpyRng::new(7);
    let mut sum = 0.0;
    for _ in 0..100_000 {
        let mask = env.action_mask();
        let open: Vec<i64> = (0..4).filter(|&action| mask[action as usize]).collect();
        let step = env.step(open[rng.choice(open.len())]).expect("a step");
        sum += step.reward.max(0.0);
        if step.terminated {
            assert_eq!((step.info.distance, sum), (Some(0), 1.5));
            return;
        }
    }
    panic!("the door was never reached");
}

#[test]
fn walls_stop_the_agent() {
    let mut env = maze(r#"{"slip": 0}"#);
    let mut place = env.reset(Some(1), None).expect("a reset").observation.place;
    for _ in 0..10 {
        let is_open = env.action_mask()[0];
        let next = env.step(0).expect("a step").observation.place;
        if is_open {
            place[0] -= 1;
        }
        assert_eq!(next, place);
    }
}

#[test]
fn there_are_two_pictures() {
    let mut env = maze("{}");
    env.reset(Some(1), None).expect("a reset");
    let Ok(Frame::Text(text)) = env.render(RenderMode::Ansi) else {
        panic!("no text")
    };
    assert!(
        text.starts_with("##########\n") && text.contains('a'),
        "{text}"
    );
    let Ok(Frame::Rgb(image)) = env.render(RenderMode::RgbArray) else {
        panic!("no picture")
    };
    assert_eq!((image.width, image.height), (160, 112));
}
