//! `cargo xtask tidy`: the project's rules that the compiler does not see.
//!
//! Each check is a pure function of one file's path and text, so the tests below need no disk:
//! they plant one violation for each rule. A check that looks at Rust code looks at
//! [`File::code`], the text with comments and literals blanked out, so a rule may be named in a
//! comment or a string without breaking it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::source::{blank_out, dependencies, has_word, is_word, numbered};

/// A check of one file that needs to know nothing but that file.
type Check = fn(&File) -> Vec<Finding>;

/// Every check but those of the READMEs, which also need the commands and the other paths.
const CHECKS: [Check; 9] = [
    layering,
    library_purity,
    unsafe_code,
    white_space,
    leftovers,
    lint_exceptions,
    file_length,
    machine_paths,
    line_ends,
];

/// The crates of the workspace that xtask may not depend on.
const CRATES: [&str; 4] = ["tensor-ops", "nn", "gan", "gan-cli"];

/// For each manifest, the crates that lie above it and so may not be its dependencies.
const UPWARD: [(&str, &[&str]); 4] = [
    ("crates/tensor-ops/Cargo.toml", &["nn", "gan", "gan-cli"]),
    ("crates/nn/Cargo.toml", &["gan", "gan-cli"]),
    ("crates/gan/Cargo.toml", &["gan-cli"]),
    ("xtask/Cargo.toml", &CRATES),
];

/// What only tensor-ops may depend on (others may in their dev-dependencies).
const KERNEL_CRATES: [&str; 2] = ["rayon", "nalgebra"];

/// The sources of the libraries, which must depend on nothing but their arguments.
const LIBRARIES: [&str; 3] = ["crates/tensor-ops/src/", "crates/nn/src/", "crates/gan/src/"];

/// The one place where unsafe code may be.
const UNSAFE_HOME: &str = "crates/tensor-ops/src/";

/// Banned in a library outside its tests: what it is, and what to do instead.
const IMPURE: [(&str, &str); 10] = [
    ("println!", "return the text or call the caller's observer; only gan-cli prints"),
    ("eprintln!", "return an error; only gan-cli prints"),
    ("print!", "return the text; only gan-cli prints"),
    ("eprint!", "return an error; only gan-cli prints"),
    ("dbg!", "delete it"),
    ("std::env", "take the value as an argument; only gan-cli reads the environment"),
    ("env::var", "take the value as an argument; only gan-cli reads the environment"),
    ("SystemTime", "take the time as an argument; only gan-cli reads the clock"),
    ("Instant::now", "take the time as an argument; only gan-cli reads the clock"),
    ("rand::random", "take a seeded generator as an argument"),
];

/// Banned in a library and in its tests too: generators whose stream is not fixed by a seed.
const UNSEEDED: [&str; 3] = ["rand::rng", "thread_rng", "StdRng"];

/// The greatest number of lines before the test module of a source file.
const MAX_LINES: usize = 500;

/// How far above an unsafe block its safety comment may end.
const SAFETY_REACH: usize = 3;

/// Words that mark unfinished work, split so that this file passes its own check.
const LEFTOVERS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Starts of paths that exist on one machine only, split for the same reason.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

/// One broken rule. It prints as `path:line: what is wrong and what to do`.
#[derive(Debug)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// What [`check`] found.
pub(crate) struct Report {
    /// How many text files were read.
    pub(crate) files: usize,
    /// The broken rules, by path and line.
    pub(crate) findings: Vec<Finding>,
}

/// Checks every text file under `root`. `commands` are the names of the commands of cargo xtask.
pub(crate) fn check(root: &Path, commands: &[&str]) -> Result<Report, String> {
    let paths: BTreeSet<String> =
        list_files(root)?.into_iter().filter(|path| is_plain_file(&root.join(path))).collect();
    let mut report = Report { files: 0, findings: Vec::new() };
    for path in &paths {
        let bytes = fs::read(root.join(path)).map_err(|e| format!("cannot read {path}: {e}"))?;
        let Some(text) = as_text(bytes) else { continue };
        report.files += 1;
        report.findings.extend(check_file(&File::new(path, &text), commands, &paths));
    }
    Ok(report)
}

/// Every check of one file, its findings in the order of its lines.
fn check_file(file: &File, commands: &[&str], paths: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(file)).collect();
    findings.extend(readme_commands(file, commands));
    findings.extend(readme_links(file, paths));
    findings.sort_by_key(|finding| finding.line);
    findings
}

// ---- The files ----

/// A text file of the repository.
struct File {
    /// Relative to the root, with `/` between its parts.
    path: String,
    text: String,
    /// Of a Rust file, the text with comments and literals blanked out, each byte in its place;
    /// of any other file, nothing.
    code: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { blank_out(text) } else { String::new() };
        Self { path: path.into(), text: text.into(), code }
    }

    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }

    fn has_extension(&self, extensions: &[&str]) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
    }

    /// Whether this is data that tests read; its bytes are as another program wrote them.
    fn is_fixture(&self) -> bool {
        let mut folders = self.path.split('/').rev().skip(1);
        !self.path.ends_with(".rs") && folders.any(|folder| ["tests", "fixtures", "data"].contains(&folder))
    }

    /// The number of lines before the test module; none if the whole file is tests.
    fn lines_before_tests(&self) -> usize {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return 0;
        }
        let lines: Vec<&str> = self.code.lines().map(str::trim_end).collect();
        let is_module = |after: &[&str]| {
            let item = after.iter().find(|line| !line.is_empty() && !line.starts_with('#'));
            item.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
        };
        let opens = |at: &usize| lines[*at] == "#[cfg(test)]" && is_module(&lines[at + 1..]);
        (0..lines.len()).find(opens).unwrap_or(lines.len())
    }
}

/// The paths git knows or would add; without git, those of all files but the ignored folders'.
fn list_files(root: &Path) -> Result<Vec<String>, String> {
    let words = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    match Command::new("git").current_dir(root).args(words).output() {
        Ok(output) if output.status.success() => {
            let listed = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(listed.split_terminator('\0').map(String::from).collect())
        }
        _ => {
            let mut found = Vec::new();
            walk(root, "", &mut found).map_err(|e| format!("cannot list the files: {e}"))?;
            Ok(found)
        }
    }
}

/// Adds the paths of the files under `folder` (itself relative to `root`) to `found`.
fn walk(root: &Path, folder: &str, found: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if !entry.file_type()?.is_dir() {
            found.push(path);
        } else if ![".git", "target", "runs"].contains(&path.as_str()) {
            walk(root, &path, found)?;
        }
    }
    Ok(())
}

/// Neither a link, nor a file that git lists but that was deleted.
fn is_plain_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
}

/// The text in `bytes`, or nothing if they are not text.
fn as_text(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

// ---- The checks ----

/// A manifest's dependencies go down the layers, and only tensor-ops has the kernel crates.
fn layering(file: &File) -> Vec<Finding> {
    let upward = UPWARD.iter().find(|(path, _)| *path == file.path).map_or(&[][..], |(_, names)| names);
    let in_crates = file.path.starts_with("crates/") && file.path.ends_with("/Cargo.toml");
    let kernels_banned = in_crates && file.path != "crates/tensor-ops/Cargo.toml";
    let mut findings = Vec::new();
    for dependency in dependencies(&file.text) {
        let name = dependency.name;
        if upward.contains(&name) {
            let what = format!("must not depend on `{name}`, a layer above it; move the shared code down");
            findings.push(file.finding(dependency.line, what));
        } else if kernels_banned && !dependency.dev && KERNEL_CRATES.contains(&name) {
            let what = format!("only tensor-ops may depend on `{name}`; call a function of tensor-ops");
            findings.push(file.finding(dependency.line, what));
        }
    }
    findings
}

/// A library neither prints nor reads the clock, the environment or an unseeded generator.
fn library_purity(file: &File) -> Vec<Finding> {
    if !LIBRARIES.iter().any(|folder| file.path.starts_with(folder)) {
        return Vec::new();
    }
    let code_end = file.lines_before_tests();
    let mut findings = Vec::new();
    for (line, code) in numbered(&file.code) {
        let impure = IMPURE.iter().find(|(word, _)| line <= code_end && has_word(code, word));
        findings
            .extend(impure.map(|(word, fix)| file.finding(line, format!("`{word}` in a library; {fix}"))));
        for word in UNSEEDED.iter().filter(|word| has_word(code, word)) {
            let what = format!("`{word}` in a library; take a seeded generator (rand_chacha) as an argument");
            findings.push(file.finding(line, what));
        }
        let in_nn = file.path.starts_with("crates/nn/");
        for word in KERNEL_CRATES.iter().filter(|word| in_nn && has_word(code, word)) {
            findings.push(file.finding(line, format!("`{word}` in nn; call a function of tensor-ops")));
        }
    }
    findings
}

/// Unsafe code is in tensor-ops only, and each block and impl says why it is sound.
fn unsafe_code(file: &File) -> Vec<Finding> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut findings = Vec::new();
    for (line, code) in numbered(&file.code).filter(|(_, code)| has_word(code, "unsafe")) {
        if !file.path.starts_with(UNSAFE_HOME) {
            let what = format!("unsafe code outside {UNSAFE_HOME}; write it safely or move it there");
            findings.push(file.finding(line, what));
        } else if is_unsafe_use(code) && !safety_above(&lines[..line - 1]) {
            let what = "unsafe code with no `// SAFETY:` comment above it; say there why it is sound";
            findings.push(file.finding(line, what));
        }
    }
    findings
}

/// Whether a line has an unsafe block or impl, and not only an unsafe function's signature.
fn is_unsafe_use(code: &str) -> bool {
    let mut afters = code.split("unsafe").skip(1).map(str::trim_start);
    afters.any(|after| after.is_empty() || after.starts_with('{') || after.starts_with("impl"))
}

/// Whether the last lines of `above`, or the comment that they are the end of, name the safety.
fn safety_above(above: &[&str]) -> bool {
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let near = above.len().saturating_sub(SAFETY_REACH);
    let mut start = near;
    while start > 0 && is_comment(above[start - 1]) && is_comment(above[start]) {
        start -= 1;
    }
    above[start..].iter().any(|line| line.contains("// SAFETY:"))
}

/// Whether the rules of white space hold for a file.
fn is_formatted(file: &File) -> bool {
    file.has_extension(&["rs", "toml", "md", "yml", "yaml"]) && !file.is_fixture()
}

/// No white space at the end of a line, and no tab in a Rust file.
fn white_space(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in numbered(&file.text).filter(|_| is_formatted(file)) {
        if text.trim_end() != text {
            findings.push(file.finding(line, "white space at the end of the line; delete it"));
        }
        if file.path.ends_with(".rs") && text.contains('\t') {
            findings.push(file.finding(line, "a tab; use spaces, or \\t in a string"));
        }
    }
    findings
}

/// Lines end in LF, and the last line of a file has one and is not empty.
fn line_ends(file: &File) -> Vec<Finding> {
    if !is_formatted(file) || file.text.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if let Some(at) = file.text.find("\r\n") {
        let line = file.text[..at].matches('\n').count() + 1;
        findings.push(file.finding(line, "a line that ends in CR LF; save the file with LF"));
    }
    let last = file.text.lines().count();
    if !file.text.ends_with('\n') {
        findings.push(file.finding(last, "no newline at the end of the file; add one"));
    } else if file.text.ends_with("\n\n") {
        findings.push(file.finding(last, "an empty line at the end of the file; delete it"));
    }
    findings
}

/// No note of unfinished work.
fn leftovers(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in numbered(&file.text).filter(|_| file.has_extension(&["rs", "md"])) {
        for word in LEFTOVERS.iter().filter(|word| has_word(text, word)) {
            findings
                .push(file.finding(line, format!("`{word}`; finish the work or state the limit plainly")));
        }
    }
    findings
}

/// Each exception from a lint has its reason: `reason = "..."`, or a comment beside or above it.
fn lint_exceptions(file: &File) -> Vec<Finding> {
    let lines: Vec<&str> = file.text.lines().collect();
    let code: Vec<&str> = file.code.lines().collect();
    let mut findings = Vec::new();
    for (index, line) in code.iter().enumerate() {
        let starts = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
        let Some(at) = starts.iter().find_map(|start| line.find(start)) else { continue };
        let to_end = format!("{}\n{}", &line[at..], code[index + 1..].join("\n"));
        let has_reason = to_end.split(")]").next().is_some_and(|attribute| has_word(attribute, "reason"));
        let beside = is_remark(lines[index][line.trim_end().len()..].trim_start());
        let above = index > 0 && is_remark(lines[index - 1].trim_start());
        if !has_reason && !beside && !above {
            findings.push(file.finding(index + 1, "a lint exception with no reason; add `reason = \"...\"`"));
        }
    }
    findings
}

/// Whether `text` is a line comment, and not one for the documentation.
fn is_remark(text: &str) -> bool {
    text.starts_with("//") && !text.starts_with("///") && !text.starts_with("//!")
}

/// A source file is short enough to read at one go.
fn file_length(file: &File) -> Vec<Finding> {
    let parts: Vec<&str> = file.path.split('/').collect();
    let in_src = matches!(parts[..], ["crates", _, "src", ..] | ["xtask", "src", ..]);
    let lines = file.lines_before_tests();
    if !in_src || !file.path.ends_with(".rs") || lines <= MAX_LINES {
        return Vec::new();
    }
    let what = format!("{lines} lines before the tests, more than {MAX_LINES}; split the file");
    vec![file.finding(MAX_LINES + 1, what)]
}

/// No path that exists on one machine only.
fn machine_paths(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in numbered(&file.text) {
        for folder in MACHINE_PATHS.iter().filter(|folder| has_absolute(text, folder)) {
            let what = format!("`{folder}`, a path of one machine; write a path relative to the repository");
            findings.push(file.finding(line, what));
        }
    }
    findings
}

/// Whether `folder` stands in `line` as the start of a path, and not in the middle of one.
fn has_absolute(line: &str, folder: &str) -> bool {
    let inside = |byte: u8| is_word(byte) || b".-~})".contains(&byte);
    line.match_indices(folder).any(|(at, _)| !line[..at].bytes().last().is_some_and(inside))
}

/// Whether `path` is one of the texts that tell a reader what to run and where to look.
fn is_guide(path: &str) -> bool {
    let of_a_crate = path.starts_with("crates/") && path.matches('/').count() == 2;
    path == "README.md" || path == "ARCHITECTURE.md" || (of_a_crate && path.ends_with("/README.md"))
}

/// Every command a guide names exists.
fn readme_commands(file: &File, commands: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in numbered(&file.text).filter(|_| is_guide(&file.path)) {
        for rest in text.split("cargo xtask ").skip(1) {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'));
            let word = &rest[..end.unwrap_or(rest.len())];
            let is_name = word.starts_with(char::is_alphabetic);
            if is_name && !commands.contains(&word) {
                let what = format!("`{word}` is not a command of cargo xtask; see `cargo xtask help`");
                findings.push(file.finding(line, what));
            }
        }
    }
    findings
}

/// Every relative link of a guide points at a file of the repository.
fn readme_links(file: &File, paths: &BTreeSet<String>) -> Vec<Finding> {
    let (mut findings, mut fenced) = (Vec::new(), false);
    for (line, text) in numbered(&file.text).filter(|_| is_guide(&file.path)) {
        if text.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let prose: String = text.split('`').step_by(2).collect();
        for link in links(&prose).into_iter().filter(|_| !fenced) {
            if !resolve(&file.path, link).is_none_or(|target| exists(&target, paths)) {
                let what = format!("the link `{link}` points at no file of the repository; mend it");
                findings.push(file.finding(line, what));
            }
        }
    }
    findings
}

/// The targets of the links and images of one line.
fn links(line: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for (open, close) in [("](", ')'), ("src=\"", '"')] {
        let afters = line.split(open).skip(1);
        found.extend(afters.filter_map(|after| after.split([close, ' ']).next()));
    }
    found
}

/// The path that `link`, in the file `from`, points at; nothing if it leaves the repository.
fn resolve(from: &str, link: &str) -> Option<String> {
    let target = link.split('#').next().unwrap_or(link);
    if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let start = if target.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Whether `target` is a file of the repository, or a folder with one in it.
fn exists(target: &str, paths: &BTreeSet<String>) -> bool {
    let folder = format!("{target}/");
    target.is_empty() || paths.contains(target) || paths.iter().any(|path| path.starts_with(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: [&str; 2] = ["ci", "test"];

    /// The lines and texts of what every check together finds in one file.
    fn findings(path: &str, text: &str) -> Vec<(usize, String)> {
        let paths = ["README.md", "crates/nn/README.md", "crates/nn/src/lib.rs", "img/a.png"];
        let paths = paths.into_iter().map(String::from).collect();
        let found = check_file(&File::new(path, text), &COMMANDS, &paths);
        found.into_iter().map(|finding| (finding.line, finding.what)).collect()
    }

    #[track_caller]
    fn assert_clean(path: &str, text: &str) {
        assert_eq!(findings(path, text), [], "{path}: {text}");
    }

    /// One finding, at `line`, that names `part`.
    #[track_caller]
    fn assert_caught(path: &str, text: &str, line: usize, part: &str) {
        let found = findings(path, text);
        assert_eq!(found.len(), 1, "{path}: {text}: {found:?}");
        assert_eq!(found[0].0, line, "{path}: {text}: {found:?}");
        assert!(found[0].1.contains(part), "{path}: {text}: {found:?}");
    }

    #[test]
    fn a_finding_prints_its_place_first() {
        let finding = File::new("a/b.rs", "").finding(7, "wrong; mend it");
        assert_eq!(finding.to_string(), "a/b.rs:7: wrong; mend it");
    }

    #[test]
    fn layers_depend_downward() {
        let upward = |name: &str| format!("[dependencies]\n{name}.workspace = true\n");
        assert_caught("crates/tensor-ops/Cargo.toml", &upward("nn"), 2, "`nn`");
        assert_caught("crates/nn/Cargo.toml", &upward("gan"), 2, "`gan`");
        assert_caught("crates/gan/Cargo.toml", &upward("gan-cli"), 2, "`gan-cli`");
        for name in CRATES {
            assert_caught("xtask/Cargo.toml", &upward(name), 2, name);
        }
        assert_clean("crates/nn/Cargo.toml", &upward("tensor-ops"));
        assert_clean("crates/gan-cli/Cargo.toml", &upward("gan"));
        assert_clean("benches/Cargo.toml", &upward("gan"));
    }

    #[test]
    fn only_tensor_ops_has_the_kernel_crates() {
        for krate in ["nn", "gan", "gan-cli"] {
            let path = format!("crates/{krate}/Cargo.toml");
            assert_caught(&path, "[dependencies]\nrayon = \"1\"\n", 2, "`rayon`");
            assert_caught(&path, "[dependencies.nalgebra]\nversion = \"0\"\n", 1, "`nalgebra`");
            assert_clean(&path, "[dev-dependencies]\nrayon = \"1\"\n");
            assert_clean(&path, "[features]\nrayon = []\n");
        }
        assert_clean("crates/tensor-ops/Cargo.toml", "[dependencies]\nrayon = \"1\"\nnalgebra = \"0\"\n");
    }

    #[test]
    fn a_renamed_dependency_is_seen() {
        let path = "crates/gan/Cargo.toml";
        assert_caught(path, "[dependencies]\nr = { package = \"rayon\", version = \"1\" }\n", 2, "rayon");
        assert_caught(path, "[dependencies.r]\npackage = \"rayon\"\n", 2, "rayon");
        assert_caught(path, "[target.'cfg(unix)'.dependencies]\nrayon = \"1\"\n", 2, "rayon");
        assert_caught(path, "[build-dependencies]\nrayon = \"1\"\n", 2, "rayon");
    }

    #[test]
    fn libraries_are_pure() {
        for (word, _) in IMPURE {
            let code = format!("fn f() {{\n    {word}(1);\n}}\n");
            for krate in ["tensor-ops", "nn", "gan"] {
                assert_caught(&format!("crates/{krate}/src/a.rs"), &code, 2, word);
            }
            assert_clean("crates/gan-cli/src/a.rs", &code);
            assert_clean("crates/gan/tests/a.rs", &code);
            assert_clean("crates/gan/src/a.rs", &format!("// {word}(1)\nfn f() {{}}\n"));
            assert_clean("crates/gan/src/a.rs", &format!("const A: &str = \"{word}(1)\";\n"));
        }
    }

    #[test]
    fn library_tests_may_print_but_not_draw_unseeded() {
        let tests = |code: &str| format!("#[cfg(test)]\nmod tests {{\n    {code}\n}}\n");
        assert_clean("crates/gan/src/a.rs", &tests("println!();"));
        assert_caught("crates/gan/src/a.rs", &tests("rand::rng();"), 3, "rand::rng");
        assert_caught("crates/gan/src/a.rs", "use std::env::var;\n", 1, "std::env");
        assert_clean("crates/gan/src/a.rs", &tests("use rand::rngs::ChaCha8Rng;"));
        let import = "#[cfg(test)]\nuse a::b;\nfn f() {\n    println!();\n}\n";
        assert_caught("crates/gan/src/a.rs", import, 4, "println!");
    }

    #[test]
    fn nn_names_no_kernel_crate() {
        let code = "use rayon::prelude::*;\n";
        assert_caught("crates/nn/src/a.rs", code, 1, "`rayon` in nn");
        assert_clean("crates/tensor-ops/src/a.rs", code);
        assert_clean("crates/nn/src/a.rs", "//! Without rayon.\n");
    }

    #[test]
    fn unsafe_code_stays_in_tensor_ops() {
        for code in ["fn f() { unsafe { g() } }\n", "unsafe fn f() {}\n", "unsafe impl Send for A {}\n"] {
            assert_caught("crates/nn/src/a.rs", code, 1, "outside");
            assert_caught("xtask/src/a.rs", code, 1, "outside");
        }
        assert_clean("crates/nn/src/a.rs", "#![forbid(unsafe_code)]\n// unsafe { }\n");
    }

    #[test]
    fn unsafe_code_says_why_it_is_sound() {
        let path = "crates/tensor-ops/src/a.rs";
        assert_caught(path, "fn f() {\n    unsafe { g() }\n}\n", 2, "SAFETY");
        assert_caught(path, "unsafe impl Send for A {}\n", 1, "SAFETY");
        assert_caught(path, "// SAFETY: a\n\n\n\nunsafe impl Send for A {}\n", 5, "SAFETY");
        assert_clean(path, "unsafe fn f(_: impl Fn()) {}\n");
        assert_clean(path, "// SAFETY: a\nlet x =\n    y(\n    unsafe { g() });\n");
        assert_clean(path, "// SAFETY: a\n// b\n// c\n// d\n// e\nunsafe impl Send for A {}\n");
    }

    #[test]
    fn white_space_is_clean() {
        assert_caught("a.md", "a\nb \n", 2, "white space");
        assert_caught("a.rs", "fn f() {\n\tg();\n}\n", 2, "tab");
        assert_caught("a.toml", "a = 1", 1, "no newline");
        assert_caught("a.yml", "a: 1\n\n", 2, "empty line");
        assert_caught("a.rs", "fn f() {}\nfn g() {}\r\n", 2, "CR LF");
        assert_clean("a.md", "a\tb\n");
        assert_clean("a.rs", "");
        assert_clean("crates/gan/tests/fixtures/a.toml", "a \r\n");
        assert_clean("crates/gan/tests/golden/a.md", "a \n\n");
        assert_caught("crates/gan/src/data/a.rs", "fn f() {} \n", 1, "white space");
        assert_caught("crates/gan/tests/a.rs", "fn f() {} \n", 1, "white space");
    }

    #[test]
    fn no_work_is_left_over() {
        for word in LEFTOVERS {
            assert_caught("a.rs", &format!("fn f() {{}}\n// {word}: g\n"), 2, word);
            assert_caught("a.md", &format!("{word}\n"), 1, word);
            assert_clean("a.toml", &format!("# {word}\n"));
            assert_clean("a.rs", &format!("// A{word}\n"));
        }
    }

    #[test]
    fn lint_exceptions_have_reasons() {
        for open in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
            assert_caught("a.rs", &format!("{open}dead_code)]\nfn f() {{}}\n"), 1, "no reason");
            assert_caught("a.rs", &format!("/// Docs.\n{open}dead_code)]\nfn f() {{}}\n"), 2, "no reason");
            assert_clean("a.rs", &format!("{open}dead_code, reason = \"a\")]\nfn f() {{}}\n"));
            assert_clean("a.rs", &format!("{open}\n    dead_code,\n    reason = \"a\"\n)]\nfn f() {{}}\n"));
            assert_clean("a.rs", &format!("{open}dead_code)] // why\nfn f() {{}}\n"));
            assert_clean("a.rs", &format!("// why\n{open}dead_code)]\nfn f() {{}}\n"));
        }
    }

    #[test]
    fn source_files_are_short() {
        let long = "fn f() {}\n".repeat(MAX_LINES);
        assert_clean("crates/nn/src/a.rs", &long);
        assert_clean(
            "crates/nn/src/a.rs",
            &format!("{long}#[cfg(test)]\nmod tests {{\n    fn g() {{}}\n}}\n"),
        );
        let allowed = "#[cfg(test)]\n#[allow(a, reason = \"b\")]\nmod tests {\n}\n";
        assert_clean("crates/nn/src/a.rs", &format!("{long}{allowed}"));
        let longer = format!("{long}fn f() {{}}\n");
        assert_caught("crates/nn/src/a/b.rs", &longer, MAX_LINES + 1, "501 lines");
        assert_clean("crates/nn/src/a/tests.rs", &longer);
        assert_clean("crates/nn/tests/a.rs", &longer);
    }

    #[test]
    fn guides_name_real_commands() {
        let text = "Run `cargo xtask ci`, or `cargo xtask [COMMAND]`, or `cargo xtask`.\n";
        assert_clean("README.md", text);
        for path in ["README.md", "ARCHITECTURE.md", "crates/nn/README.md"] {
            assert_caught(path, "a\n`cargo xtask test` and `cargo xtask tset -v`\n", 2, "`tset`");
        }
        assert_clean("docs/a.md", "cargo xtask tset\n");
    }

    #[test]
    fn guides_link_to_files() {
        let good =
            "[a](crates/nn/README.md#x) [b](crates/nn) ![c](img/a.png \"t\") [d](https://a.b/c) [e](#f)\n";
        assert_clean("README.md", good);
        assert_clean("crates/nn/README.md", "[a](src/lib.rs) [b](../../README.md) [c](/img/a.png)\n");
        assert_clean("README.md", "`a[0](b)`\n```\na[0](b)\n```\n");
        assert_caught("README.md", "\n[a](missing.md)\n", 2, "missing.md");
        assert_caught("README.md", "<img src=\"img/b.png\">\n", 1, "img/b.png");
        assert_caught("crates/nn/README.md", "[`a`](README.md) [b](../README.md)\n", 1, "../README.md");
    }

    #[test]
    fn no_path_of_one_machine() {
        for folder in MACHINE_PATHS {
            assert_caught("a.json", &format!("{{\n\"{folder}x\"}}\n"), 2, folder);
            assert_caught(".ci/run", &format!("cd {folder}x\n"), 1, folder);
            assert_caught("a.md", &format!("file://{folder}x\n"), 1, folder);
            assert_clean("a.md", &format!("https://a.org{folder}x ..{folder}x ~{folder}x\n"));
        }
    }
}
