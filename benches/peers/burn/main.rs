//! The notebook's GAN in burn, on its fastest backend for CPUs: the answers of `../peer.py`, in Rust.

use std::io::{BufRead, Write};
use std::time::Instant;

use burn::module::Module;
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::{relu, sigmoid, softplus};
use burn::tensor::{Device, Distribution, Tensor};

const RATE: f64 = 2e-4;

#[derive(Module, Debug)]
struct Layers {
    linear: Vec<Linear>,
}

impl Layers {
    fn new(sizes: &[usize], device: &Device) -> Self {
        let layer = |pair: &[usize]| {
            LinearConfig::new(pair[0], pair[1])
                .with_initializer(Initializer::XavierUniform { gain: 1.0 })
                .init(device)
        };
        Self { linear: sizes.windows(2).map(layer).collect() }
    }

    fn forward(&self, mut x: Tensor<2>, last: fn(Tensor<2>) -> Tensor<2>) -> Tensor<2> {
        let count = self.linear.len();
        for (place, linear) in self.linear.iter().enumerate() {
            x = linear.forward(x);
            if place + 2 < count {
                x = relu(x);
            } else if place + 2 == count {
                x = last(x);
            }
        }
        x
    }
}

fn generate(g: &Layers, z: Tensor<2>) -> Tensor<2> {
    let [batch, width] = z.dims();
    g.forward(z.reshape([batch * width, 1]), sigmoid).reshape([batch, width])
}

fn judge(d: &Layers, x: Tensor<2>) -> Tensor<2> {
    let deviation = x.clone() - x.clone().mean_dim(1);
    d.forward(Tensor::cat(vec![x, deviation.clone() * deviation], 1), relu)
}

struct Gan {
    batch: usize,
    g: Layers,
    d: Layers,
    g_adam: ModuleOptimizer,
    d_adam: ModuleOptimizer,
    device: Device,
}

impl Gan {
    fn new(batch: usize, width: usize, depth: usize) -> Self {
        let device = Device::flex().autodiff();
        let sizes = |first| [vec![first], vec![width; depth], vec![1]].concat();
        let adam = || AdamConfig::new().with_epsilon(1e-7).init();
        let (g, d) = (Layers::new(&sizes(1), &device), Layers::new(&sizes(200), &device));
        Self { batch, g, d, g_adam: adam(), d_adam: adam(), device }
    }

    fn latent(&self, device: &Device) -> Tensor<2> {
        Tensor::random([self.batch, 100], Distribution::Uniform(0.0, 1.0), device)
    }

    fn train(mut self, epochs: usize) -> (Self, f32) {
        let mut last = 0.0;
        let plain = Device::flex();
        for _ in 0..epochs {
            let real = Tensor::random([self.batch, 100], Distribution::Normal(4.0, 1.25), &plain);
            let fake = generate(&self.g.valid(), self.latent(&plain));
            let sign = Tensor::cat(
                vec![-Tensor::<2>::ones([self.batch, 1], &plain), Tensor::ones([self.batch, 1], &plain)],
                0,
            );
            let x = Tensor::cat(vec![real, fake], 0).autodiff();
            let loss = softplus(sign.autodiff() * judge(&self.d, x), 1.0).mean();
            let grads = GradientsParams::from_grads(loss.backward(), &self.d);
            self.d = self.d_adam.step(RATE, self.d, grads);
            let frozen = self.d.clone().no_grad();
            for _ in 0..5 {
                let fake = generate(&self.g, self.latent(&self.device));
                let loss = softplus(-judge(&frozen, fake), 1.0).mean();
                last = loss.clone().into_scalar::<f32>();
                let grads = GradientsParams::from_grads(loss.backward(), &self.g);
                self.g = self.g_adam.step(RATE, self.g, grads);
            }
        }
        (self, last)
    }
}

fn answer(text: &str) {
    println!("{text}");
    std::io::stdout().flush().expect("someone listens");
}

fn main() {
    let _ = Gan::new(1, 50, 2).train(1);
    answer("0");
    let mut kept: Option<([usize; 3], Gan)> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("text");
        let numbers: Vec<usize> = line.split_whitespace().map(|x| x.parse().expect("a number")).collect();
        let [batch, width, depth, epochs] = numbers[..] else { panic!("four numbers, found {line}") };
        let shape = [batch, width, depth];
        let gan = match kept.take() {
            Some((same, gan)) if same == shape => gan,
            _ => Gan::new(batch, width, depth),
        };
        let (gan, _) = gan.train(epochs);
        let start = Instant::now();
        let (gan, loss) = gan.train(epochs);
        let seconds = start.elapsed().as_secs_f64();
        assert!(loss.is_finite(), "the loss is {loss}");
        kept = Some((shape, gan));
        answer(&format!("{:.3}", seconds / epochs as f64 * 1e6));
    }
}
