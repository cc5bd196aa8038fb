//! CSV files, and latents in .npy files' stead of them: see `runs` for those.

use crate::{Case, bytes, config};

const GOOD: &str = "a,b\n1,2\n3,4\n5,7\n";

pub(crate) fn cases() -> Vec<Case> {
    let columns =
        |columns: &str| config(&format!("{{ kind = \"csv\", path = \"rows.csv\"{columns} }}"), &[2]);
    let csv = |what: &str, bytes: &[u8]| {
        Case::train(format!("csv: {what}"), &columns(""), "rows.csv").with("rows.csv", bytes)
    };
    let mut cases: Vec<Case> = bytes::cut(&GOOD.as_bytes()[..8], 8)
        .map(|(length, bytes)| csv(&format!("cut to {length} bytes"), &bytes))
        .collect();
    for field in
        ["", "x", "nan", "inf", "-inf", "1e400", "0x10", "1_000", "1,5", "\u{662}", "1 2", "--1", "\"", "'1'"]
    {
        cases.push(csv(&format!("the number {field}"), format!("a,b\n1,2\n{field},4\n").as_bytes()));
    }
    let long = "9".repeat(1 << 20);
    for (what, text) in [
        ("a long number", format!("a,b\n1,2\n{long},4\n")),
        ("a long line", format!("a,b\n{}\n", "1,".repeat(1 << 18))),
        ("an open quote", format!("a,b\n\"{}", "1,2\n".repeat(1 << 16))),
        ("no rows", "a,b\n".to_owned()),
        ("a short line", "a,b\n1,2\n3\n".to_owned()),
        ("a long line at the end", "a,b\n1,2\n3,4,5\n".to_owned()),
        ("semicolons", "a;b\n1;2\n3;4\n".to_owned()),
        ("all the same", "a,b\n1,2\n1,3\n".to_owned()),
        ("one row", "a,b\n1,2\n".to_owned()),
        ("numbers whose squares overflow", "a,b\n1e308,2\n-1e308,3\n".to_owned()),
        ("a header of numbers that are too many", "1,2\n3,4,5\n".to_owned()),
        ("only line ends", "\n\n\n\n".to_owned()),
    ] {
        cases.push(csv(what, text.as_bytes()));
    }
    cases.push(csv("Latin-1", b"a,b\n1,2\n\xe9,4\n"));
    cases.push(csv("Latin-1 in the header", b"\xe9,b\n1,2\n3,4\n"));
    cases.push(csv("NULs", &[0; 1000]));
    cases.push(csv("a picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"));
    for (what, columns_, names) in [
        ("a column that is not there", "[\"c\"]", "rows.csv"),
        ("column 0", "[0]", "rows.csv"),
        ("column 3", "[1, 3]", "rows.csv"),
        ("column 2^63 - 1", "[9223372036854775807]", "rows.csv"),
        ("column -1", "[-1]", "column"),
        ("no columns", "[]", "column"),
        ("too few columns", "[1]", "generator.layers"),
        ("a column of columns", "[[1]]", "column"),
    ] {
        let config = columns(&format!(", columns = {columns_}"));
        cases.push(Case::train(format!("csv: {what}"), &config, names).with("rows.csv", GOOD));
    }
    for (what, before) in [
        ("missing", ""),
        ("a folder", "mkdir rows.csv"),
        ("a pipe", "mkfifo rows.csv"),
        ("a device", "ln -s /dev/zero rows.csv"),
        ("a loop", "ln -s rows.csv rows.csv"),
        ("unending zeros", "truncate -s 1T rows.csv"),
    ] {
        cases.push(Case::train(format!("csv: {what}"), &columns(""), "rows.csv").before(before));
    }
    cases
}
