//! Configurations: what they say when they are wrong, and that nothing is lost in writing and reading them.

use gan::{Config, Latent, Session};
use nn::layers::LayerConfig;

fn notebook() -> &'static str {
    gan::preset("notebook").unwrap()
}

fn parse(text: &str, overrides: &[&str]) -> gan::Result<Config> {
    let overrides: Vec<String> = overrides.iter().map(|&setting| setting.to_owned()).collect();
    Config::parse(text, &overrides)
}

/// What is said about a text with these overrides, read and built. It must fit on one line.
#[track_caller]
fn error_of(text: &str, overrides: &[&str]) -> String {
    let built = parse(text, overrides).and_then(Session::<f32>::new);
    let message = built.map(|_| "no error").unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// Replaces the first `from` in the notebook preset and checks what is said.
#[track_caller]
fn check(from: &str, to: &str, expected: &str) {
    assert!(notebook().contains(from), "the preset has no `{from}`");
    assert_eq!(error_of(&notebook().replacen(from, to, 1), &[]), expected);
}

/// Sets an override of the notebook preset and checks what is said.
#[track_caller]
fn check_override(setting: &str, expected: &str) {
    assert_eq!(error_of(notebook(), &[setting]), expected);
}

/// The number, from 1, of the preset's line that starts so, as errors give it.
fn line(start: &str) -> usize {
    1 + notebook().lines().position(|line| line.starts_with(start)).unwrap()
}

#[test]
fn the_notebook_preset_is_written_and_read_back() {
    let config = parse(notebook(), &[]).unwrap();
    let text = config.to_toml().unwrap();
    let again = parse(&text, &[]).unwrap();
    assert_eq!(again, config);
    assert_eq!(again.to_toml().unwrap(), text);
    assert_eq!(config.stages(), 200);
}

#[test]
fn every_preset_makes_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let files = digits_as_files(folder.path());
    let photos = grey_photos(&folder.path().join("photos"));
    for (name, _, text) in gan::PRESETS {
        let mut settings: Vec<&str> = Vec::new();
        if text.contains("kind = \"idx\"") {
            settings.extend(files.iter().map(String::as_str));
        } else if text.contains("kind = \"folder\"") {
            settings.push(&photos);
        }
        let session = Session::<f32>::new(parse(text, &settings).unwrap());
        session.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(gan::preset("note"), None);
}

/// Writes twenty images of 28 x 28 pixels with labels as MNIST's files; the settings that name them.
fn digits_as_files(folder: &std::path::Path) -> [String; 2] {
    let (mut images, mut labels) = (vec![0, 0, 8, 3], vec![0, 0, 8, 1, 0, 0, 0, 20]);
    [20_u32, 28, 28].iter().for_each(|size| images.extend(size.to_be_bytes()));
    images.extend((0..20 * 784).map(|i| (i * 37 % 256) as u8));
    labels.extend((0..20_u8).map(|i| i % 10));
    [("images", images), ("labels", labels)].map(|(name, bytes)| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        format!("data.{name}=\"{}\"", path.display())
    })
}

/// Writes two grey pictures; the setting that names their folder.
fn grey_photos(folder: &std::path::Path) -> String {
    std::fs::create_dir(folder).unwrap();
    for shade in [50, 200] {
        let pixels = vec![shade; 92 * 112];
        let bytes = [b"P5 92 112 255\n", &pixels[..]].concat();
        std::fs::write(folder.join(format!("{shade}.pgm")), bytes).unwrap();
    }
    format!("data.path=\"{}\"", folder.display())
}

#[test]
fn frozen_layers_keep_what_they_start_with() {
    let config = parse(notebook(), &["discriminator.frozen=[1]", "generator.frozen=[3]"]).unwrap();
    assert!(config.to_toml().unwrap().contains("frozen = [1]"));
    let mut session = Session::<f32>::new(config).unwrap();
    let values = |session: &Session<f32>| {
        let (d, g) = (session.trainer().discriminator(), session.trainer().generator());
        [d, g].map(|network| network.parameters().iter().map(|p| p.value.clone()).collect::<Vec<_>>())
    };
    let before = values(&session);
    session.run_epoch().unwrap();
    let after = values(&session);
    // Layer 1 of D is its first with parameters, layer 3 of G its third: a kernel and a bias each.
    let kept = |network: usize| -> Vec<bool> {
        before[network].iter().zip(&after[network]).map(|(before, after)| before == after).collect()
    };
    assert_eq!(kept(0), [true, true, false, false, false, false]);
    assert_eq!(kept(1), [false, false, false, false, true, true]);
    check_override(
        "generator.frozen=[5]",
        "generator.frozen: expected places of its 5 layers, from 0, found 5",
    );
}

#[test]
fn a_conditional_run_learns_and_makes_what_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let [images, labels] = digits_as_files(folder.path());
    let text = gan::preset("mnist-conditional").unwrap();
    let settings = [&images[..], &labels, "train.batch=4", "evaluate.rows=20"];
    let mut session = Session::<f32>::new(parse(text, &settings).unwrap()).unwrap();
    session.run_epoch().unwrap();
    let names: Vec<&str> =
        session.evaluate(20, 1).unwrap().evaluation.measures.iter().map(|measure| measure.name).collect();
    assert!(names.contains(&"nearest_distance") && !names.contains(&"label_accuracy"), "{names:?}");
    let seven = session.class("7").unwrap();
    let [sevens, threes] = [seven, 3].map(|class| session.sample(2, 5, Some(class)).unwrap());
    assert_ne!(sevens, threes);
    assert_eq!(session.sample(4, 5, Some(seven)).unwrap().data()[..2 * 784], sevens.data()[..]);
    let error = session.class("x").unwrap_err().to_string();
    assert_eq!(error, "label: expected 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, found x");
    let digits = Session::<f32>::new(parse(gan::preset("digits").unwrap(), &[]).unwrap()).unwrap();
    let error = digits.class("7").unwrap_err().to_string();
    assert_eq!(error, "label: expected none: this generator takes no labels, found 7");
}

#[test]
fn rules_out_of_range_are_refused() {
    let refused = |setting: &str, message: &str| {
        let config = parse(notebook(), &[setting]);
        let error = config.and_then(Session::<f32>::new).unwrap_err().to_string();
        assert_eq!(error, message);
    };
    refused("penalty.r1=-1.0", "penalty.r1: expected a number >= 0, found -1");
    refused(
        "objective.label_smoothing=1.0",
        "objective.label_smoothing: expected a number from 0 to below 1, found 1",
    );
    refused("train.clip_norm=0.0", "train.clip_norm: expected a number > 0, found 0");
    refused("train.ema_decay=1.0", "train.ema_decay: expected a number from 0 to below 1, found 1");
    refused("train.packing=3", "train.batch: expected a multiple of train.packing, 3, found 1");
    refused(
        "train.packing=0",
        "train.packing: expected at least 1, and 1 where rows have more than one axis, found 0",
    );
    refused("train.schedule.warm_up=2.0", "train: schedule: warm_up: expected a number from 0 to 1, found 2");
    refused(
        "discriminator.layers=[{ layer = \"minibatch_std\" }, { layer = \"dense\", units = 1 }]",
        "train.batch: expected a multiple of 4, the rows that the networks take together, found 1",
    );
    let known = "mean, std, skewness, quantile_0.001, quantile_0.01, quantile_0.05, quantile_0.25, quantile_0.5, \
                 quantile_0.75, quantile_0.95, quantile_0.99, quantile_0.999, ks, wasserstein_1, energy_distance";
    refused(
        "evaluate.require.fid=1.0",
        &format!("evaluate.require: expected names of measures: {known}, found fid"),
    );
    refused(
        "data={ kind = \"two_moons\", noise = 0.1 }",
        "generator.layers: expected an output of 2 numbers, a row of the data, found [100]",
    );
}

#[test]
fn statistics_of_a_batch_need_more_than_one_row() {
    let normalised = r#"generator.layers.0={ layer = "sequential", layers = [
        { layer = "batch_normalization" }, { layer = "reshape", target_shape = [100, 1] }] }"#;
    assert_eq!(
        error_of(notebook(), &[normalised, "train.batch=1"]),
        "train.batch: expected at least 2, for layers that go by the whole batch, found 1"
    );
    let config = parse(notebook(), &[normalised, "train.batch=3"]).unwrap();
    Session::<f32>::new(config).unwrap();
}

#[test]
fn defaults_are_written_out() {
    let end = notebook().find("[objective]").unwrap();
    let text = parse(&notebook()[..end], &[]).unwrap().to_toml().unwrap();
    for line in [
        "kind = \"non_saturating\"",
        "learning_rate = 0.0002",
        "amsgrad = false",
        "seed = 0",
        "precision = \"f32\"",
        "batch = 10",
        "epochs = 40000",
        "stage = 200",
        "discriminator_steps = 1",
        "generator_steps = 5",
        "rows = 100",
        "checkpoints = 3",
        "stage_plots = false",
        "stage_samples = false",
        "use_bias = true",
        "padding = \"valid\"",
        "kernel_initializer = \"glorot_uniform\"",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
}

#[test]
fn odd_numbers_survive_writing() {
    let text = notebook().replacen("mean = 4.0", "mean = 0.1000000000000000055", 1);
    let config = parse(&text, &["train.seed=9223372036854775807", "data.std=1e-300"]).unwrap();
    assert_eq!(parse(&config.to_toml().unwrap(), &[]).unwrap(), config);
    assert_eq!(config.train.seed, i64::MAX as u64);
}

#[test]
fn overrides_set_what_they_name() {
    let base = parse(notebook(), &[]).unwrap();
    let config = parse(notebook(), &["train.batch=10"]).unwrap();
    assert_eq!(config.train.batch, 10);
    let mut expected = base.clone();
    expected.train.batch = 10;
    assert_eq!(config, expected);

    let config = parse(notebook(), &["generator.layers.1.filters=20"]).unwrap();
    let LayerConfig::Conv1D(conv) = &config.generator.layers[1] else { panic!("another layer") };
    assert_eq!(conv.filters, 20);

    let config = parse(notebook(), &["train.batch=2", "train.batch=3", "output.stage_plots=true"]).unwrap();
    assert_eq!((config.train.batch, config.output.stage_plots), (3, true));
}

#[test]
fn an_override_may_be_a_word_without_quotes() {
    let quoted = parse(notebook(), &["train.precision=\"f64\""]).unwrap();
    assert_eq!(parse(notebook(), &["train.precision=f64"]).unwrap(), quoted);
}

#[test]
fn another_distribution_takes_its_whole_table() {
    let table = "latent={ distribution = \"normal\", mean = 0.0, std = 1.0, dim = 100 }";
    let config = parse(notebook(), &[table]).unwrap();
    assert_eq!(config.latent, Latent::Normal { mean: 0.0, std: 1.0, dim: 100 });
    let parts = ["latent.distribution=\"normal\"", "latent.mean=0.0", "latent.std=1.0"];
    assert_eq!(
        error_of(notebook(), &parts),
        "--set latent.distribution=\"normal\" latent.mean=0.0 latent.std=1.0: unknown field `high`, expected one \
         of `mean`, `std`, `dim` in `latent`"
    );
}

#[test]
fn overrides_of_each_wrong_kind_are_refused() {
    check_override("train.batch", "--set train.batch: expected key.path=value, found no `=`");
    check_override("=3", "--set =3: expected key.path=value, found no key");
    check_override("train.=3", "--set train.=3: expected key.path=value, found no key");
    check_override("train.batch.x=3", "--set train.batch.x=3: expected a table or a list, found x");
    check_override(
        "generator.layers.9.filters=2",
        "--set generator.layers.9.filters=2: expected the place of an entry in the list, found 9",
    );
    check_override(
        "generator.layers.x=2",
        "--set generator.layers.x=2: expected the place of an entry in the list, found x",
    );
    check_override(
        "train.batch=ten",
        "--set train.batch=ten: invalid type: string \"ten\", expected usize in `train.batch`",
    );
    check_override(
        "evaluate.row=3",
        "--set evaluate.row=3: unknown field `row`, expected `rows` or `require` in `evaluate`",
    );
    check_override("train.batch=0", "train.batch: expected at least 1, found 0");
    check_override("data.std=nan", "data: expected a finite mean and a std > 0, found mean 4, std NaN");
    check_override(
        "generator.layers.4.x=3",
        "--set generator.layers.4.x=3: layer 4: unknown field `x`, there are no fields in `generator.layers`",
    );
}

/// What follows a line break would be a key of its own, which nobody reads.
#[test]
fn an_override_is_one_value() {
    check_override(
        "train.batch=1\nseed=3",
        "--set train.batch=1 seed=3: invalid type: string \"1\\nseed=3\", expected usize in `train.batch`",
    );
}

#[test]
fn unknown_keys_are_named_with_their_line() {
    check(
        "rows = 100",
        "rows = 100\nrow = 1",
        &format!("line {}: unknown field `row`, expected `rows` or `require`", line("rows = 100") + 1),
    );
    // In a table whose `kind` decides the keys, the line is that of the table.
    check(
        "mean = 4.0",
        "maen = 4.0",
        &format!("line {}: unknown field `maen`, expected `mean` or `std`", line("[data]")),
    );
    check(
        "[output]",
        "[outputs]",
        &format!(
            "line {}: unknown field `outputs`, expected one of `data`, `latent`, `generator`, `discriminator`, \
             `objective`, `penalty`, `augment`, `optimizer`, `train`, `evaluate`, `output`",
            line("[output]")
        ),
    );
}

#[test]
fn wrong_layers_are_named_by_number() {
    let list = line("layers = [");
    let found = error_of(&notebook().replacen("layer = \"flatten\"", "layer = \"flaten\"", 1), &[]);
    let expected =
        format!("line {list}: layer 4: unknown variant `flaten`, expected one of `dense`, `conv1d`");
    assert!(found.starts_with(&expected), "{found}");
    check(
        "filters = 1, kernel_size = 1",
        "filters = 1",
        &format!("line {list}: layer 3: missing field `kernel_size`"),
    );
    check(
        "filters = 1,",
        "filters = \"one\",",
        &format!("line {list}: layer 3: invalid type: string \"one\", expected usize"),
    );
    check(
        "layer = \"flatten\"",
        "layer = \"flatten\", x = 1",
        &format!("line {list}: layer 4: unknown field `x`, there are no fields"),
    );
}

#[test]
fn a_wrong_expression_shows_the_column() {
    let list = 1 + notebook().lines().enumerate().filter(|(_, l)| l.starts_with("layers")).nth(1).unwrap().0;
    check(
        "concat([x, square(x - mean",
        "concat([x, square(x - maen",
        &format!(
            "line {list}: layer 0: expression `concat([x, square(x - maen(x, axis=1))], axis=1)`: at column 23: \
             expected x, a number, a function or (, found `maen`"
        ),
    );
}

#[test]
fn wrong_types_are_named_with_their_line() {
    let batch = line("batch = 1");
    let invalid = |what: &str| format!("line {batch}: invalid {what}, expected usize");
    check("batch = 1\n", "batch = \"one\"\n", &invalid("type: string \"one\""));
    check("batch = 1\n", "batch = -1\n", &invalid("value: integer `-1`"));
    check("batch = 1\n", "batch = 1.5\n", &invalid("type: floating point `1.5`"));
    check(
        "precision = \"f32\"",
        "precision = \"f16\"",
        &format!("line {}: unknown variant `f16`, expected `f32` or `f64`", line("precision")),
    );
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(error_of("", &[]), "line 1: missing field `data`");
    let start = notebook().find("[generator]").unwrap();
    let end = notebook().find("[discriminator]").unwrap();
    let text = [&notebook()[..start], &notebook()[end..]].concat();
    assert_eq!(error_of(&text, &[]), "line 1: missing field `generator`");
    check("std = 1.25\n", "", &format!("line {}: missing field `std`", line("[data]")));
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    assert_eq!(error_of("hello", &[]), "line 1: key with no value, expected `=`");
    check("[data]", "[data", &format!("line {}: unclosed table, expected `]`", line("[data]")));
    check(
        "batch = 1\n",
        "batch = 1\nbatch = 2\n",
        &format!("line {}: expected a whole configuration: duplicate key", line("batch = 1") + 1),
    );
}

#[test]
fn distributions_that_cannot_be_are_refused() {
    check("std = 1.25", "std = nan", "data: expected a finite mean and a std > 0, found mean 4, std NaN");
    check("std = 1.25", "std = -1.0", "data: expected a finite mean and a std > 0, found mean 4, std -1");
    check("mean = 4.0", "mean = inf", "data: expected a finite mean and a std > 0, found mean inf, std 1.25");
    check("high = 1.0", "high = 0.0", "latent: expected a finite low below high, found low 0, high 0");
}

#[test]
fn networks_that_do_not_fit_are_refused() {
    check("dim = 100", "dim = 99", "latent.dim: expected 100, the elements of generator.input, found 99");
    let end = "discriminator.layers: expected an output [1] with a sigmoid (a probability) or none (a logit), found";
    check("units = 1,", "units = 2,", &format!("{end} [2] with sigmoid"));
    check(
        "units = 1, activation = \"sigmoid\"",
        "units = 1, activation = \"tanh\"",
        &format!("{end} [1] with tanh"),
    );
    check(
        "filters = 1,",
        "filters = 2,",
        "generator.layers: expected an output [100], the discriminator's input, found [200]",
    );
    check(
        "target_shape = [100, 1]",
        "target_shape = [50, 1]",
        "generator: layer 0 (reshape): expected rows of 50 elements for [50, 1], found [100]",
    );
}

#[test]
fn numbers_out_of_range_are_refused() {
    check("units = 1,", "units = 0,", "discriminator: layer 3 (dense): units: expected at least 1, found 0");
    check("batch = 1\n", "batch = 0\n", "train.batch: expected at least 1, found 0");
    check("stage = 200", "stage = 0", "train.stage: expected at least 1, found 0");
    check("epochs = 40_000", "epochs = 0", "train.epochs: expected at least 1, found 0");
    check("rows = 100", "rows = 0", "evaluate.rows: expected at least 1, found 0");
    check("checkpoints = 3", "checkpoints = 0", "output.checkpoints: expected at least 1, found 0");
    check(
        "beta_1 = 0.9",
        "beta_1 = 1.0",
        "optimizer.generator: adam: beta_1: expected a number from 0 to below 1, found 1",
    );
    check(
        "seed = 0",
        "seed = 9223372036854775808",
        "train.seed: expected at most 2^63 - 1, found 9223372036854775808",
    );
    check(
        "discriminator_steps = 1\ngenerator_steps = 5",
        "discriminator_steps = 0\ngenerator_steps = 0",
        "train.generator_steps: expected at least one step of D or G in an epoch, found 0",
    );
}

/// What asks for more than there is gets an error, at once, rather than the attempt.
#[test]
fn what_no_memory_holds_is_refused_before_it_is_asked_for() {
    for (setting, field) in [
        (
            "train.batch=9223372036854775807",
            "train.batch: expected what fits into memory, found 18446744073709551615",
        ),
        (
            "train.batch=1000000000",
            "train.batch: expected what fits into memory, found 800000000000 bytes of 80000",
        ),
        (
            "evaluate.rows=1000000000",
            "evaluate.rows: expected what fits into memory, found 2400000000000 bytes of ",
        ),
        // Of 4 bytes: weights, gradients and two moments, and their average where one is kept; and all outputs for a row.
        (
            "generator.layers.1.filters=10000000000",
            "generator.layers: expected what fits into memory, found 12320000022816 bytes of ",
        ),
        (
            "generator.layers.1.filters=10000000000 train.ema_decay=0.9",
            "generator.layers: expected what fits into memory, found 14400000023220 bytes of ",
        ),
        (
            "discriminator.layers.1.units=1000000000",
            "discriminator.layers: expected what fits into memory, found 4020000002620 bytes of ",
        ),
        ("train.packing=9223372036854775807", "train.batch: expected a multiple of train.packing"),
    ] {
        let begun = std::time::Instant::now();
        let mut message = String::new();
        let memory = allocation_counter::measure(|| {
            let settings: Vec<&str> = setting.split(' ').collect();
            let session = parse(notebook(), &settings).and_then(Session::<f32>::new);
            message = session.unwrap_err().to_string();
        });
        assert!(message.starts_with(field), "{setting}: {message}");
        assert!(memory.bytes_max < 1 << 20, "{setting}: {} bytes", memory.bytes_max);
        assert!(begun.elapsed().as_millis() < 100, "{setting}: {:?}", begun.elapsed());
    }
}
