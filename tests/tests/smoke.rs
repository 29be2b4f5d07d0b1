//! The shortest way through every layer.

use rollcage_tests::{discrete, shipped};

#[test]
fn eight_cartpoles_step_together() {
    let mut envs = shipped("cartpole").envs(8).seed(7).build().unwrap();
    envs.reset(None).unwrap();
    for _ in 0..100 {
        let batch = envs.step(&discrete(&[1; 8])).unwrap();
        assert!(batch.faults.iter().all(Option::is_none));
    }
    assert_eq!(envs.faults().total(), 0);
}
