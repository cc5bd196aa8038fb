//! Configurations that come with the program.

/// The presets: name, what it is, and its TOML.
pub const PRESETS: &[(&str, &str, &str)] = &[
    (
        "notebook",
        "uniform noise to N(4, 1.25), the classic first GAN",
        include_str!("../presets/notebook.toml"),
    ),
    ("normal", "the same data, learned as exactly as can be told", include_str!("../presets/normal.toml")),
    (
        "normal-set",
        "the same with the notebook's own networks, from other settings",
        include_str!("../presets/normal-set.toml"),
    ),
    ("ring", "points around 8 modes on a circle", include_str!("../presets/ring.toml")),
    ("grid", "points around 25 modes on a grid", include_str!("../presets/grid.toml")),
    ("digits", "handwritten digits of 8 x 8 pixels", include_str!("../presets/digits.toml")),
    ("mnist", "handwritten digits of 28 x 28 pixels, from a file", include_str!("../presets/mnist.toml")),
    (
        "mnist-conditional",
        "the same, each the digit asked for",
        include_str!("../presets/mnist-conditional.toml"),
    ),
    ("faces", "face photos of 64 x 64 grey pixels, from a folder", include_str!("../presets/faces.toml")),
    ("mixture", "a mixture of two normal distributions", include_str!("../presets/mixture.toml")),
    ("lognormal", "a log-normal distribution, with a long tail", include_str!("../presets/lognormal.toml")),
    ("student-t", "Student's t with 3 degrees of freedom", include_str!("../presets/student-t.toml")),
];

/// The TOML of a preset.
#[must_use]
pub fn preset(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(known, _, _)| *known == name).map(|(_, _, text)| *text)
}
