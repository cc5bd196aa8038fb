//! The notebook's GAN, or, with the argument `dcgan`, one for images, in this project: the answers of `peer.py`, and, to a
//! line `peak`, the GFLOP/s of a bare loop of fused multiply-adds.

use std::io::{BufRead, Write};
use std::time::Instant;

use gan::{Config, Session, preset};
use tensor_ops::{for_each_shard, multiply_adds, with_threads};

/// The networks by batch, width and depth.
type Make = fn(usize, usize, usize) -> Session<f32>;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let threads = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(2);
    let make: Make = if arguments.iter().any(|word| word == "dcgan") { dcgan } else { notebook };
    with_threads(threads, || serve(threads, make)).expect("the system starts a few threads");
}

fn serve(threads: usize, make: Make) {
    run(&mut make(1, 50, 2), 1);
    answer(0.0);
    let mut kept: Option<([usize; 3], Session<f32>)> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("text");
        if line == "peak" {
            answer(peak(threads));
            continue;
        }
        let numbers: Vec<usize> = line.split_whitespace().map(|x| x.parse().expect("a number")).collect();
        let [batch, width, depth, epochs] = numbers.try_into().expect("four numbers");
        let shape = [batch, width, depth];
        let same = kept.take().filter(|(known, _)| *known == shape);
        let mut session = same.map_or_else(|| make(batch, width, depth), |(_, session)| session);
        run(&mut session, epochs);
        let start = Instant::now();
        run(&mut session, epochs);
        answer(start.elapsed().as_secs_f64() / epochs as f64 * 1e6);
        kept = Some((shape, session));
    }
}

/// The notebook preset with another batch, and `depth` hidden layers of `width` units in G and D.
fn notebook(batch: usize, width: usize, depth: usize) -> Session<f32> {
    let hidden = |layer: &str, last: &str| -> String {
        let name = |place| if place + 1 == depth { last } else { "relu" };
        let line = |place| format!("{{ {layer} = {width}, activation = \"{}\" }}, ", name(place));
        (0..depth).map(line).collect()
    };
    let conv = "layer = \"conv1d\", kernel_size = 1, filters";
    let dense = "layer = \"dense\", units";
    let generator = format!(
        "[{{ layer = \"reshape\", target_shape = [100, 1] }}, {}{{ {conv} = 1 }}, {{ layer = \"flatten\" }}]",
        hidden(conv, "sigmoid")
    );
    let decorate = "concat([x, square(x - mean(x, axis=1))], axis=1)";
    let discriminator = format!(
        "[{{ layer = \"lambda\", expression = \"{decorate}\" }}, {}{{ {dense} = 1, activation = \"sigmoid\" }}]",
        hidden(dense, "relu")
    );
    session(&[
        format!("train.batch={batch}"),
        format!("generator.layers={generator}"),
        format!("discriminator.layers={discriminator}"),
    ])
}

/// A DCGAN for images of 28 x 28 pixels, which are noise here; 1 step of D and 1 of G make an epoch.
fn dcgan(batch: usize, _: usize, _: usize) -> Session<f32> {
    let window = "kernel_size = 4, strides = 2, padding = \"same\"";
    let up = format!("layer = \"conv2d_transpose\", {window}");
    let down = format!("layer = \"conv2d\", {window}");
    session(&[
        format!("train.batch={batch}"),
        "train.generator_steps=1".to_owned(),
        "latent={ distribution = \"normal\", mean = 0, std = 1, dim = 64 }".to_owned(),
        "generator.input=[64]".to_owned(),
        format!(
            "generator.layers=[{{ layer = \"dense\", units = 6272, activation = \"relu\" }},
                {{ layer = \"reshape\", target_shape = [7, 7, 128] }},
                {{ {up}, filters = 64, activation = \"relu\" }}, {{ {up}, filters = 1, activation = \"tanh\" }}]"
        ),
        "discriminator.input=[28, 28, 1]".to_owned(),
        format!(
            "discriminator.layers=[{{ {down}, filters = 64, activation = \"leaky_relu\" }},
                {{ {down}, filters = 128, activation = \"leaky_relu\" }}, {{ layer = \"flatten\" }},
                {{ layer = \"dense\", units = 1 }}]"
        ),
    ])
}

/// The notebook preset with other settings.
fn session(settings: &[String]) -> Session<f32> {
    let config = Config::parse(preset("notebook").expect("the notebook preset"), settings);
    config.and_then(Session::new).expect("a configuration that fits")
}

fn run(session: &mut Session<f32>, epochs: usize) {
    for _ in 0..epochs {
        session.run_epoch().expect("an epoch");
    }
}

/// GFLOP/s of multiply-adds on numbers in registers, on all threads: the best of tries over a tenth of a second, since
/// another program's threads may spin for a while after its turn.
fn peak(threads: usize) -> f64 {
    let mut done = vec![0_usize; threads];
    let mut once = || {
        let start = Instant::now();
        for_each_shard(&mut done, |_, done| *done = multiply_adds::<f32>(1_000_000));
        2e-9 * done.iter().sum::<usize>() as f64 / start.elapsed().as_secs_f64()
    };
    (0..60).map(|_| once()).fold(0.0, f64::max)
}

fn answer(number: f64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{number:.3}").and_then(|()| out.flush()).expect("someone listens");
}
