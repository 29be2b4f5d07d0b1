//! The env natively, without wasm and without the host. `rollcage check .` looks at much more.

use rollcage_sdk::testing::Native;

use my_env::MyEnv;

#[test]
fn the_goal_is_reached() {
    let mut env = Native::<MyEnv>::new("{}").expect("the defaults");
    let mut seen = env.reset(Some(7), None).expect("a reset").observation;
    for _ in 0..1000 {
        // Towards the goal, and the more gently the faster the cart goes there.
        let [position, speed, goal] = seen;
        let push = goal - position - 2.0 * speed;
        let step = env.step([push]).expect("a step");
        if step.terminated {
            assert_eq!(step.reward, 10.0);
            return;
        }
        seen = step.observation;
    }
    panic!("the cart stands still at {seen:?}");
}

#[test]
fn a_push_is_clipped() {
    let after = |push: f32| {
        let mut env = Native::<MyEnv>::new("{}").expect("the defaults");
        env.reset(Some(3), None).expect("a reset");
        let step = env.step([push]).expect("a step");
        (step.observation, step.reward)
    };
    assert_eq!(after(5.0), after(1.0));
    assert_ne!(after(0.5), after(1.0));
}
