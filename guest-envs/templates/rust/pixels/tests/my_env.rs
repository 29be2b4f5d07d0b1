//! The env natively, without wasm and without the host. `rollcage check .` looks at much more.

use std::cmp::Ordering;

use rollcage_sdk::prelude::*;
use rollcage_sdk::testing::Native;

use my_env::MyEnv;

#[test]
fn a_bat_that_follows_the_ball_catches_it() {
    let mut env = Native::<MyEnv>::new(r#"{"balls": 5}"#).expect("a config");
    let mut picture = env.reset(Some(7), None).expect("a reset").observation;
    let mut sum = 0.0;
    loop {
        // Where a grey begins: 255 is the ball, 160 the bat, whose middle is 6 pixels further.
        let column = |grey| {
            let in_row = |row: &[[u8; 1]; 84]| row.iter().position(|&pixel| pixel == [grey]);
            picture.iter().find_map(in_row)
        };
        let (ball, bat) = (column(255).expect("a ball"), column(160).expect("a bat"));
        let action = match ball.cmp(&(bat + 6)) {
            Ordering::Less => 0,
            Ordering::Equal => 1,
            Ordering::Greater => 2,
        };
        let step = env.step(action).expect("a step");
        (picture, sum) = (step.observation, sum + step.reward);
        if step.terminated {
            break;
        }
    }
    assert!(sum >= 3.0, "{sum}");
}

#[test]
fn the_rendered_picture_is_the_observation_in_grey() {
    let mut env = Native::<MyEnv>::new("{}").expect("the defaults");
    let seen = env.reset(Some(3), None).expect("a reset").observation;
    let Ok(Frame::Rgb(image)) = env.render(RenderMode::RgbArray) else {
        panic!("no picture")
    };
    assert_eq!((image.width, image.height), (84, 84));
    let greys = seen.as_flattened().iter().flat_map(|&[grey]| [grey; 3]);
    assert!(image.pixels.into_iter().eq(greys));
}
