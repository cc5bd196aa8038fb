//! Reading just well enough for `tidy`: Rust, to tell code from comments and literals, and
//! Cargo.toml, to list dependencies.

/// `text` with every comment, string and character literal turned to spaces.
pub(crate) fn blank_out(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (start, end) = next_token(text, at);
        for byte in &mut bytes[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The end of the token at `at`, and where in it the part to blank out starts (at the end: none).
fn next_token(text: &str, at: usize) -> (usize, usize) {
    let rest = &text.as_bytes()[at..];
    let word = rest.iter().take_while(|byte| is_word(**byte)).count();
    if word > 0 {
        let start = at + word;
        let raw = matches!(&rest[..word], b"r" | b"br" | b"cr");
        let end = if raw { raw_string(&text[start..]).map_or(start, |length| start + length) } else { start };
        return (start, end);
    }
    let blank = match rest {
        [b'/', b'/', ..] => text[at..].find('\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest),
        [b'\'', ..] => character(&text[at..]),
        _ => 0,
    };
    if blank > 0 { (at, at + blank) } else { (at + 1, at + 1) }
}

/// Whether `byte` can be part of a name (every byte of a non-ASCII letter counts).
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// The length of the raw string `#"..."#` that `text` starts with, its `r` left out.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text.bytes().take_while(|byte| *byte == b'#').count();
    let open = hashes + 1;
    if text.as_bytes().get(hashes) != Some(&b'"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    Some(text[open..].find(&close).map_or(text.len(), |found| open + found + close.len()))
}

/// The length of the block comment that `rest` starts with. Block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string literal that `rest` starts with.
fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of the character literal that `text` starts with, or 0 if it is a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let after = at + escaped.len_utf8();
            text[after..].find('\'').map_or(0, |found| after + found + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Whether `line` holds `needle` with no letter, digit or underscore joined to its ends.
pub(crate) fn has_word(line: &str, needle: &str) -> bool {
    let bytes = line.as_bytes();
    let joined = |inner: Option<u8>, outer: Option<&u8>| {
        inner.is_some_and(is_word) && outer.is_some_and(|byte| is_word(*byte))
    };
    line.match_indices(needle).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        let after = bytes.get(at + needle.len());
        !joined(needle.bytes().next(), before) && !joined(needle.bytes().last(), after)
    })
}

/// The lines of `text`, numbered from 1.
pub(crate) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// A dependency named in a manifest.
pub(crate) struct Dependency<'a> {
    pub(crate) line: usize,
    pub(crate) name: &'a str,
    /// Whether it is one of the dev-dependencies.
    pub(crate) dev: bool,
}

/// The dependencies of a manifest, renamed ones by their real names too.
pub(crate) fn dependencies(manifest: &str) -> Vec<Dependency<'_>> {
    let (mut found, mut section) = (Vec::new(), "");
    for (line, text) in numbered(manifest) {
        let text = text.split('#').next().unwrap_or(text).trim();
        if let Some(header) = text.strip_prefix('[').filter(|_| text.ends_with(']')) {
            section = header.trim_end_matches(']');
            found.extend(dependency_of_header(section).map(|name| (line, name, section)));
        } else if let Some((key, value)) = text.split_once('=').filter(|_| section.contains("dependencies")) {
            let key = key.split('.').next().unwrap_or(key).trim().trim_matches('"');
            let own_table = dependency_of_header(section).is_some();
            let name = if own_table { None } else { Some(key) };
            let package = if own_table && key == "package" { Some(value) } else { renamed(value) };
            let names = name.into_iter().chain(package.map(|value| value.trim().trim_matches('"')));
            found.extend(names.map(|name| (line, name, section)));
        }
    }
    let dependency = |(line, name, section): (usize, _, &str)| Dependency {
        line,
        name,
        dev: section.contains("dev-dependencies"),
    };
    found.into_iter().map(dependency).collect()
}

/// The `NAME` of a header `[dependencies.NAME]`.
fn dependency_of_header(section: &str) -> Option<&str> {
    section.split_once("dependencies.").map(|(_, name)| name.trim_matches('"'))
}

/// The `NAME` of a value `{ package = "NAME", ... }`.
fn renamed(value: &str) -> Option<&str> {
    let (_, after) = value.split_once("package")?;
    after.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_alone() {
        assert!(has_word("a b::c", "b::c") && has_word("b", "b") && has_word("(print!(1))", "print!"));
        assert!(!has_word("ab", "b") && !has_word("b_c", "b") && !has_word("eprint!()", "print!"));
        assert!(!has_word("éb", "b"));
    }

    #[test]
    fn dependencies_of_every_form_are_listed() {
        let manifest = "[package]\nname = \"a\"\n[dependencies] # x\nb.workspace = true\n\"c\" = \"1\"\n\
            d = { package = \"e\" }\n# x = \"1\"\n[dev-dependencies.f]\npackage = \"g\"\nversion = \"1\"\n[features]\nh = []\n";
        let found: Vec<_> = dependencies(manifest).iter().map(|d| (d.line, d.name, d.dev)).collect();
        let normal = [(4, "b", false), (5, "c", false), (6, "d", false), (6, "e", false)];
        assert_eq!(found, [&normal[..], &[(8, "f", true), (9, "g", true)]].concat());
    }

    #[test]
    fn comments_and_literals_are_blanked_out() {
        let cases = [
            ("a // b\nc", "a c"),
            ("a /* /* b */ */ c", "a c"),
            (r#"a "b\"c" d"#, "a d"),
            ("a r#\"b\"c\"# d", "a r d"),
            ("r#type 'a' '\\'' '\\u{e9}' 'é' &'a b", "r#type &'a b"),
            ("b'\"' c", "b c"),
        ];
        for (text, kept) in cases {
            let code = blank_out(text);
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), kept, "{text}");
            assert_eq!((code.len(), code.lines().count()), (text.len(), text.lines().count()), "{text}");
        }
    }

    #[test]
    fn unfinished_literals_do_not_stop_the_reader() {
        for text in ["\"a", "'", "'\\", "/* a", "r#\"a", "\"a\\"] {
            assert_eq!(blank_out(text).len(), text.len(), "{text}");
        }
    }
}
