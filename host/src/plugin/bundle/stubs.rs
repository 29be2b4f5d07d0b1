//! The names under which distributions with native code are imported. What is inside such a wheel is not looked at: it
//! may have hundreds of megabytes.

/// Distributions whose modules have other names than they.
const MODULES: [(&str, &[&str]); 40] = [
    ("ale-py", &["ale_py"]),
    ("autorom", &["AutoROM"]),
    ("beautifulsoup4", &["bs4"]),
    ("box2d", &["Box2D"]),
    ("box2d-py", &["Box2D"]),
    ("dm-tree", &["tree"]),
    ("faiss-cpu", &["faiss"]),
    ("grpcio", &["grpc"]),
    ("gym-notices", &["gym_notices"]),
    ("igraph", &["igraph"]),
    ("jaxlib", &["jaxlib"]),
    ("levenshtein", &["Levenshtein"]),
    ("matplotlib", &["matplotlib", "mpl_toolkits", "pylab"]),
    ("mujoco-py", &["mujoco_py"]),
    ("opencv-contrib-python", &["cv2"]),
    ("opencv-contrib-python-headless", &["cv2"]),
    ("opencv-python", &["cv2"]),
    ("opencv-python-headless", &["cv2"]),
    ("pillow", &["PIL"]),
    ("protobuf", &["google"]),
    ("psycopg2-binary", &["psycopg2"]),
    ("pybox2d", &["Box2D"]),
    ("pybullet", &["pybullet", "pybullet_data", "pybullet_envs"]),
    ("pycryptodome", &["Crypto"]),
    ("pygame-ce", &["pygame"]),
    ("pyopengl-accelerate", &["OpenGL_accelerate"]),
    ("pyqt5", &["PyQt5"]),
    ("pyqt6", &["PyQt6"]),
    ("pyside6", &["PySide6"]),
    ("pyyaml", &["yaml"]),
    ("pyzmq", &["zmq"]),
    ("ruamel-yaml-clib", &["_ruamel_yaml"]),
    ("scikit-image", &["skimage"]),
    ("scikit-learn", &["sklearn"]),
    ("stable-retro", &["retro"]),
    ("tensorflow-cpu", &["tensorflow"]),
    ("torchvision", &["torchvision"]),
    ("websocket-client", &["websocket"]),
    ("wxpython", &["wx"]),
    ("zstandard", &["zstandard"]),
];

/// The names of a distribution's modules at the top.
pub(super) fn modules(distribution: &str) -> Vec<String> {
    match MODULES.binary_search_by_key(&distribution, |(name, _)| name) {
        Ok(index) => MODULES[index].1.iter().map(|&module| module.to_owned()).collect(),
        Err(_) => vec![distribution.replace(['-', '.'], "_")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_has_its_distributions_name_or_a_known_one() {
        assert!(MODULES.is_sorted_by_key(|(name, _)| *name));
        assert_eq!(modules("scipy"), ["scipy"]);
        assert_eq!(modules("pygame-ce"), ["pygame"]);
        assert_eq!(modules("some-thing"), ["some_thing"]);
    }
}
