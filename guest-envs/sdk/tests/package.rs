//! What `cargo package` packs: the crate must build where the repository is not around it.

use std::process::Command;

#[test]
fn the_package_has_the_interface_and_the_licences() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let ran = Command::new(cargo)
        .args(["package", "--list", "--allow-dirty", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    let (list, said) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}");
    let interface = ["wit/assets.wit", "wit/environment.wit", "wit/types.wit", "wit-policy/policy.wit"];
    for file in ["README.md", "LICENSE-APACHE", "LICENSE-MIT"].into_iter().chain(interface) {
        assert!(list.lines().any(|line| line == file), "`{file}` is missing: {list}");
    }
}

#[test]
fn the_interface_is_the_repositorys() {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (link, original) in [("wit", "../../wit/0.1.0"), ("wit-policy", "../../wit/policy/0.1.0")] {
        let original = manifest.join(original);
        // An unpacked package has no repository around it.
        if original.exists() {
            let real = |path: &std::path::Path| path.canonicalize().expect("a folder");
            assert_eq!(real(&manifest.join(link)), real(&original));
        }
    }
}
