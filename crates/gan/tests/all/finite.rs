//! A NaN or infinity, wherever it comes from, stops a run at that step, with the name of what holds it.

use gan::{Config, Error, Session};
use nn::Parameter;

const POISONS: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

/// A small run with all that a checkpoint can hold.
fn session(overrides: &[&str]) -> Session<f32> {
    let overrides: Vec<String> = overrides.iter().map(|&setting| setting.to_owned()).collect();
    Session::new(Config::parse(include_str!("../checkpoints/run.toml"), &overrides).unwrap()).unwrap()
}

/// What an epoch says is not finite.
#[track_caller]
fn culprit(session: &mut Session<f32>) -> String {
    let error = session.run_epoch().unwrap_err();
    assert!(matches!(&error, Error::NotFinite { epoch: 1, value, .. } if !value.is_finite()), "{error}");
    if let Error::NotFinite { what, .. } = error { what } else { error.to_string() }
}

fn keys(parameters: &[Parameter<f32>]) -> Vec<String> {
    parameters.iter().map(Parameter::key).collect()
}

#[test]
fn a_weight_is_named() {
    let trained = session(&[]);
    let networks = [trained.trainer().generator(), trained.trainer().discriminator()];
    for (network, name) in networks.iter().zip(["generator", "discriminator"]) {
        for (place, key) in keys(network.parameters()).iter().enumerate() {
            for poison in POISONS {
                let mut session = session(&[]);
                let (generator, discriminator) = session.trainer_mut().networks_mut();
                let poisoned = if name == "generator" { generator } else { discriminator };
                poisoned.parameters_mut()[place].value.data_mut()[0] = poison;
                let found = culprit(&mut session);
                assert_eq!(found, format!("{name}.{key}"), "{poison}");
            }
        }
    }
}

#[test]
fn a_moment_is_found_in_its_weight() {
    for (learner, name) in [(0, "generator"), (1, "discriminator")] {
        let count = session(&[]).trainer().learners()[learner].1.state.slots.len();
        for place in 0..count {
            for slot in 0..session(&[]).trainer().learners()[learner].1.state.slots[place].len() {
                for poison in POISONS {
                    let mut session = session(&[]);
                    let [generator, discriminator] = session.trainer_mut().learners_mut();
                    let poisoned = if learner == 0 { generator } else { discriminator };
                    let parameter = &poisoned.network.parameters()[place];
                    let expected = format!("{name}.{}", parameter.key());
                    // Of the largest second moment, what is not large does not count.
                    if !parameter.learned || slot == 2 && poison != f32::INFINITY {
                        continue;
                    }
                    poisoned.state.slots[place][slot].data_mut()[0] = poison;
                    assert_eq!(culprit(&mut session), expected, "slot {slot}, {poison}");
                }
            }
        }
    }
}

#[test]
fn an_average_is_named() {
    let count = session(&[]).trainer().average().unwrap().parameters().len();
    for place in 0..count {
        for poison in POISONS {
            let mut session = session(&[]);
            let average = session.trainer_mut().average_mut().unwrap();
            average.parameters_mut()[place].value.data_mut()[0] = poison;
            let expected = format!("ema.generator.{}", average.parameters()[place].key());
            assert_eq!(culprit(&mut session), expected, "{poison}");
        }
    }
}

/// Rows that are finite, and so large that what they lead to is not, or only just.
fn on_large_rows(value: f32, layers: &str, objective: &str, prepare: impl Fn(&mut Session<f32>)) -> String {
    let data = format!("data={{ kind = \"uniform\", low = {:e}, high = {value:e} }}", 0.99 * value);
    let layers = format!("discriminator.layers={layers}");
    let settings = [
        &data,
        "generator.layers=[{ layer = \"dense\", units = 3 }]",
        "discriminator.input=[3]",
        &layers,
        objective,
        "optimizer.discriminator={ kind = \"adam\" }",
    ];
    let mut session = session(&settings);
    prepare(&mut session);
    culprit(&mut session)
}

#[test]
fn a_gradient_is_named() {
    let two = "[{ layer = \"dense\", units = 2 }, { layer = \"dense\", units = 1 }]";
    let found = on_large_rows(3e38, two, "objective.kind=wasserstein", |session| {
        let (_, discriminator) = session.trainer_mut().networks_mut();
        let parameters = discriminator.parameters_mut();
        // The output is 0, and its gradient with respect to the first kernel 3e38 times 1e10.
        parameters[0].value.fill(0.0);
        parameters[2].value.fill(1e10);
    });
    assert_eq!(found, "discriminator.0.kernel's gradient");
}

/// The gradient is finite, but not its square: the weights would stand still from here on.
#[test]
fn a_second_moment_that_overflows_is_found_in_its_weight() {
    let one = "[{ layer = \"dense\", units = 1 }]";
    let found = on_large_rows(1e25, one, "objective.kind=wasserstein", |session| {
        let (_, discriminator) = session.trainer_mut().networks_mut();
        discriminator.parameters_mut()[0].value.fill(0.0);
    });
    assert_eq!(found, "discriminator.0.kernel");
}

#[test]
fn a_loss_and_a_row_are_named() {
    let one = "[{ layer = \"dense\", units = 1 }]";
    let found = on_large_rows(3e38, one, "objective.kind=least_squares", |_| ());
    assert_eq!(found, "D's loss");
    let latent = "latent={ distribution = \"normal\", mean = 3e38, std = 3e38, dim = 2 }";
    assert_eq!(culprit(&mut session(&[latent])), "a latent");
    let real = "data={ kind = \"normal\", mean = 3e38, std = 3e38 }";
    let flat = "generator.layers.3={ layer = \"reshape\", target_shape = [64] }";
    let layers = "discriminator.layers=[{ layer = \"dense\", units = 1 }]";
    assert_eq!(culprit(&mut session(&[real, flat, "discriminator.input=[64]", layers])), "a real row");
}
