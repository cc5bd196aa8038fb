//! explore
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use gan::Config;
fn notebook() -> &'static str { gan::preset("notebook").unwrap() }
#[test]
fn explore() {
    let swaps: &[(&str, &str)] = &[
        ("batch = 1\n", "batch = 1\nbatches = 2\n"),
        ("kind = \"normal\"\nmean", "kind = \"normal\"\nmaen"),
        ("kind = \"normal\"\nmean", "kind = \"normal\"\nextra = 1\nmean"),
        ("kind = \"normal\"", "kind = \"gauss\""),
        ("[data]", "[dta]"),
        ("[output]", "[outputs]"),
        ("{ layer = \"flatten\" }", "{ layer = \"flaten\" }"),
        ("{ layer = \"flatten\" }", "{ layer = \"flatten\", x = 1 }"),
        ("filters = 1,", "filtres = 1,"),
        ("filters = 1,", "filters = \"one\","),
        ("filters = 1,", "filters = -1,"),
        ("filters = 1, kernel_size = 1", "filters = 1"),
        ("activation = \"relu\"", "activation = \"rulu\""),
        ("batch = 1\n", "batch = \"one\"\n"),
        ("batch = 1\n", "batch = -1\n"),
        ("batch = 1\n", "batch = 1.5\n"),
        ("batch = 1\n", "batch = 0\n"),
        ("batch = 1\n", "batch = \n"),
        ("batch = 1\n", "batch = 1\nbatch = 2\n"),
        ("precision = \"f32\"", "precision = \"f16\""),
        ("seed = 0", "seed = 9223372036854775808"),
        ("std = 1.25", "std = nan"),
        ("std = 1.25", "std = -1.0"),
        ("std = 1.25", "std = \"x\""),
        ("std = 1.25", ""),
        ("high = 1.0", "high = 0.0"),
        ("dim = 100", "dim = 99"),
        ("dim = 100", "dim = 0"),
        ("units = 1,", "units = 2,"),
        ("units = 1,", "units = 0,"),
        ("units = 1, activation = \"sigmoid\"", "units = 1, activation = \"tanh\""),
        ("filters = 1, kernel_size = 1", "filters = 2, kernel_size = 1"),
        ("filters = 1, kernel_size = 1", "filters = 1, kernel_size = 2"),
        ("filters = 1, kernel_size = 1", "filters = 1, kernel_size = 200"),
        ("square(x - mean(x, axis=1))]", "square(x - maen(x, axis=1))]"),
        ("kind = \"adam\"", "kind = \"adm\""),
        ("beta_1 = 0.9", "beta_1 = 1.0"),
        ("beta_1 = 0.9", "beta1 = 0.9"),
        ("learning_rate = 2e-4", "learning_rate = \"fast\""),
        ("kind = \"non_saturating\"", "kind = \"hinge\""),
        ("discriminator_steps = 1\ngenerator_steps = 5", "discriminator_steps = 0\ngenerator_steps = 0"),
        ("[generator]\ninput = [100]", "[generator]\ninput = []"),
        ("[generator]\ninput = [100]", "[generator]\n"),
        ("target_shape = [100, 1]", "target_shape = [50, 1]"),
        ("[discriminator]\ninput = [100]", "[discriminator]\ninput = [2,2,2,2,2,2,2]"),
        ("[data]", "[data\n"),
        ("rows = 100", "rows = 0"),
        ("checkpoints = 3", "checkpoints = 0"),
        ("stage = 200", "stage = 0"),
    ];
    for (from, to) in swaps {
        assert!(notebook().contains(from), "{from}");
        let text = notebook().replacen(from, to, 1);
        report(&format!("{from} => {to}"), &text, &[]);
    }
    report("empty", "", &[]);
    report("garbage", "hello", &[]);
    for o in [vec!["train.batch=10"], vec!["latent.distribution=\"normal\"", "latent.mean=0.0","latent.std=1.0"],
        vec!["latent.distribution=\"normal\""],
        vec!["latent={distribution=\"normal\",mean=0.0,std=1.0,dim=100}"], vec!["latent.distribution=normal"],
        vec!["generator.layers.1.filters=20"], vec!["generator.layers.9.filters=20"], vec!["generator.layers.x.filters=20"],
        vec!["generator.layers.9=20"],
        vec!["train.batch"], vec!["=3"], vec!["train.=3"], vec![".batch=3"], vec!["train..batch=3"], vec!["train.batch.x=3"], vec!["train.batch=ten"], vec!["train.batch=0"], vec!["train.batches=3"], vec!["trian.batch=3"],
        vec!["train.batch=10", "train.epochs=x"], vec!["train.batch=1\nseed=3"], vec!["generator.layers.1.units=3"], vec!["generator.layers.1.layer=dens"], vec!["data.std=nan"], vec!["train.batch= 10 "], vec![" train . batch =10"], vec!["train.batch="], vec!["output.stage_plots=true"],vec!["train.precision=f64"], vec!["data.mean=5"]] {
        let o: Vec<String> = o.into_iter().map(String::from).collect();
        report(&format!("{o:?}"), notebook(), &o);
    }
}
fn report(what: &str, text: &str, o: &[String]) {
    let r = Config::parse(text, o).and_then(|c| { gan::Session::<f32>::new(c.clone())?; Ok(c) });
    println!("{what:?}\n    {}", match r { Ok(c) => format!("OK {:?}", (c.train.batch, c.latent, &c.generator.layers.len())), Err(e) => format!("{e:?}\n    {e}") });
}
