//! CSV files, with and without a header.
#![no_main]

use gan::{ColumnName, Table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = fuzz::file("rows.csv", bytes);
    for header in [false, true] {
        if let Some(table) = fuzz::check(Table::read(&path, header, None)) {
            assert!(
                table.width() > 0
                    && table.columns.iter().all(|column| column.mean.is_finite() && column.std > 0.0)
            );
        }
    }
    fuzz::check(Table::read(&path, true, Some(&[ColumnName::Name("a".to_owned()), ColumnName::Number(2)])));
});
