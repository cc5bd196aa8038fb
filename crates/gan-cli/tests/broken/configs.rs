//! Configurations: broken text, and settings that no run can have.

use crate::{Case, bytes, config, words};

/// Settings that are whole numbers, in the `notebook` preset.
const COUNTS: &[&str] = &[
    "latent.dim",
    "generator.input.0",
    "generator.layers.0.target_shape.0",
    "generator.layers.1.filters",
    "generator.layers.1.kernel_size",
    "generator.layers.1.strides",
    "discriminator.layers.1.units",
    "train.seed",
    "train.batch",
    "train.epochs",
    "train.stage",
    "train.discriminator_steps",
    "train.packing",
    "evaluate.rows",
    "output.checkpoints",
];
const NOT_COUNTS: &[&str] = &["-1", "1.5", "nan", "1e308", "9223372036854775808", "\"ten\"", "[]", "true"];

/// Settings that are numbers with a fraction.
const NUMBERS: &[&str] = &[
    "data.mean",
    "data.std",
    "latent.low",
    "optimizer.generator.learning_rate",
    "optimizer.discriminator.beta_2",
    "train.clip_norm",
    "train.ema_decay",
    "objective.label_smoothing",
    "penalty.r1",
    "evaluate.require.ks",
];
const NOT_NUMBERS: &[&str] = &["nan", "inf", "-inf", "1e308", "\"ten\"", "{}"];

/// Settings that ask for more than there is, or than there can be, beside those that they need.
const HUGE: &[&str] = &[
    "train.batch=1000000000000",
    "train.batch=9223372036854775807",
    "train.packing=9223372036854775807",
    "evaluate.rows=1000000000000",
    "evaluate.rows=9223372036854775807",
    "generator.input=[1000000000000] --set latent.dim=1000000000000",
    "generator.input=[9223372036854775807] --set latent.dim=9223372036854775807",
    "generator.input=[4294967296,4294967296]",
    "generator.input=[1,1,1,1,1,1,1,1,1]",
    "generator.input=[]",
    "generator.input=[0]",
    "generator.layers.1.filters=100000000000",
    "generator.layers.1.filters=9223372036854775807",
    "generator.layers.1.kernel_size=9223372036854775807",
    "generator.layers.1.strides=9223372036854775807",
    "generator.layers.1.dilation_rate=9223372036854775807 --set generator.layers.1.kernel_size=9223372036854775807",
    "generator.layers.0.target_shape=[4294967296,4294967297]",
    "generator.layers.0.target_shape=[9223372036854775807,9223372036854775807,9223372036854775807]",
    "discriminator.layers.1.units=1000000000000",
    "discriminator.layers.1.units=9223372036854775807",
    "discriminator.layers.3.units=9223372036854775807",
    "discriminator.layers.1={layer=\"embedding\",input_dim=9223372036854775807,output_dim=9223372036854775807}",
    "discriminator.layers.1={layer=\"label_embedding\",classes=9223372036854775807,units=9223372036854775807}",
    "generator.layers.1={layer=\"up_sampling2d\",size=9223372036854775807}",
    "generator.layers.1={layer=\"conv2d_transpose\",filters=1,kernel_size=2,strides=9223372036854775807}",
    "data={kind=\"ring\",modes=9223372036854775807,std=1.0}",
    "data={kind=\"grid\",side=4294967296,std=1.0}",
    "data={kind=\"mixture\",components=[]}",
    "data={kind=\"mixture\",components=[{weight=1e308,mean=1.0,std=1.0},{weight=1e308,mean=1.0,std=1.0}]}",
];

/// Text that is no configuration.
fn texts() -> Vec<(&'static str, Vec<u8>)> {
    let good = config("{ kind = \"normal\", mean = 4.0, std = 1.0 }", &[2]);
    let nested = |open: &str, close: &str, depth| open.repeat(depth) + &close.repeat(depth);
    let layers = nested("{ layer = \"sequential\", layers = [", "] }", 300);
    vec![
        ("empty", Vec::new()),
        ("a NUL", [good.as_bytes(), b"\0"].concat()),
        ("Latin-1", [good.as_bytes(), b"# \xe9t\xe9\n"].concat()),
        ("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec()),
        ("JSON", b"{ \"data\": { \"kind\": \"normal\" } }".to_vec()),
        ("an open string", format!("{good}\nx = \"a").into_bytes()),
        ("an open list", format!("{good}\nx = [1, 2").into_bytes()),
        ("an open table", format!("{good}\n[x").into_bytes()),
        ("a key twice", format!("{good}\ndata = 1\n").into_bytes()),
        ("a table twice", format!("{good}\n[a]\n[a]\n").into_bytes()),
        ("a key of no table", format!("{good}\nx = 1\n").into_bytes()),
        ("a date", format!("{good}\ntrain.x = 1979-05-27\n").into_bytes()),
        ("lists in lists", format!("x = {}", nested("[", "]", 100_000)).into_bytes()),
        ("tables in tables", format!("x = {}", nested("{ x = ", "}", 100_000)).into_bytes()),
        ("a long path", format!("{}x = 1", "x.".repeat(100_000)).into_bytes()),
        ("a long path of known keys", format!("[{}x]", "data.".repeat(50_000)).into_bytes()),
        ("layers in layers", good.replace("{ layer = \"flatten\" }", &layers).into_bytes()),
        ("a long comment", format!("{good}# {}", "x".repeat(2 << 20)).into_bytes()),
        ("a long unknown key", format!("{good}{} = 1", "x".repeat(100_000)).into_bytes()),
        ("a long value", format!("{good}train.seed = \"{}\"", "x".repeat(100_000)).into_bytes()),
        ("no data", good.split("data =").next().unwrap_or_default().as_bytes().to_vec()),
        (
            "brackets in a lambda",
            good.replace("\"flatten\"", &format!("\"lambda\", expression = \"{}\"", "(".repeat(100_000)))
                .into_bytes(),
        ),
        ("a lambda of nothing", good.replace("\"flatten\"", "\"lambda\", expression = \"\"").into_bytes()),
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, text) in texts() {
        let mut case = Case::train(format!("config: {what}"), "", "mine.toml");
        case.files[0].1 = text;
        cases.push(case);
    }
    // Its last byte closes a string: no part of it is whole.
    let text = config("{}", &[2]).replace("data = {}\n", "[data]\nstd = 1.0\nmean = 4.0\nkind = \"normal\"");
    for (length, text) in bytes::cut(text.as_bytes(), 30) {
        let text = String::from_utf8(text).unwrap();
        cases.push(Case::train(format!("config: cut to {length} bytes"), &text, "mine.toml"));
    }
    for path in ["nothing.toml", ".", "/dev/zero", "mine.toml/x"] {
        let mut case = Case::train(format!("config: {path}"), "", path);
        case.arguments[3] = path.to_owned();
        cases.push(case);
    }
    for table in
        ["", "data.", "latent.", "generator.", "generator.layers.1.", "objective.", "train.", "output."]
    {
        cases.push(set(&format!("{table}nonsense=1"), "nonsense"));
    }
    for (keys, values) in [(COUNTS, NOT_COUNTS), (NUMBERS, NOT_NUMBERS)] {
        for key in keys {
            let field = key.split('.').find(|part| part.len() > 1 && *part != "layers").unwrap_or_default();
            cases.extend(values.iter().map(|value| set(&format!("{key}={value}"), field)));
        }
    }
    cases.extend(
        HUGE.iter().map(|setting| set(setting, setting.split(['.', '=']).next().unwrap_or_default())),
    );
    let path = format!("data{}=1", ".x".repeat(30_000));
    cases.extend([
        set(&path, "--set"),
        set("", "--set"),
        set("=", "--set"),
        set("generator.layers.99=1", "99"),
    ]);
    cases.push(set(
        "discriminator.layers.1={layer=\"minibatch_std\",group=9223372036854775807}",
        "train.batch",
    ));
    cases.push(set("generator.layers.-1.units=1", "--set"));
    cases.push(set("data.kind=\"\\u0007\"", "--set"));
    cases
}

fn set(setting: &str, names: &str) -> Case {
    let mut arguments = words("train --quiet --run out --set");
    arguments.extend(
        setting.split(" --set ").collect::<Vec<_>>().join("\n--set\n").split('\n').map(str::to_owned),
    );
    let what: String = setting.chars().take(100).collect();
    Case { what, files: Vec::new(), before: "", arguments, names: names.to_owned(), late: false }
}
