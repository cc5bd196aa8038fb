//! Configurations: the first line is for the command line, the others are the file.
#![no_main]

use gan::{Config, NetworkConfig};
use libfuzzer_sys::fuzz_target;
use nn::Network;
use nn::layers::{LayerConfig, Sequential};

fuzz_target!(|text: &str| {
    let (first, text) = text.split_once('\n').unwrap_or(("", text));
    let overrides: Vec<String> =
        first.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let Some(config) = fuzz::check(Config::parse(text, &overrides)) else { return };
    let again = Config::parse(&config.to_toml().unwrap(), &[]).unwrap();
    assert_eq!(config, again, "what is written is read as the same");
    for NetworkConfig { input, layers, .. } in [&config.generator, &config.discriminator] {
        let layers = Sequential::new(layers.iter().map(LayerConfig::build).collect());
        let _ = Network::<f32>::measure(nn::Shape::new(input).unwrap(), &layers);
    }
});
