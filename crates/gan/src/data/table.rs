//! Numeric columns of a CSV file.

use std::io::{self, Read};
use std::path::Path;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use tensor_ops::Scalar;

use crate::files::open;
use crate::{Error, Result};

/// Which columns of a CSV file: by name, or by number from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the name of a column, or its number from 1")]
pub enum ColumnName {
    /// By number, from 1.
    Number(usize),
    /// By the name in the header.
    Name(String),
}

/// A column, and how its numbers are standardised: (x - mean) / std.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its name in the header; empty in a file without.
    pub name: String,
    /// Its mean.
    pub mean: f64,
    /// Its standard deviation (with divisor n).
    pub std: f64,
}

/// Numeric columns, standardised.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, one after the other, each column with mean 0 and standard deviation 1.
    rows: Vec<f64>,
}

impl Table {
    /// Reads a file: all columns, or those `chosen`.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read; [`Error::File`], with line and column, for what is missing, not a number or
    /// not finite, for a column that is not there, and for one whose numbers are all the same.
    pub fn read(path: &Path, header: bool, chosen: Option<&[ColumnName]>) -> Result<Self> {
        let (file, _) = open(path)?;
        Self::parse(file, header, chosen).map_err(|message| Error::file(path, message))
    }

    /// The columns of a table whose rows are not there: for mapping samples back.
    pub(crate) fn without_rows(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    fn parse(
        text: impl Read,
        header: bool,
        chosen: Option<&[ColumnName]>,
    ) -> std::result::Result<Self, String> {
        let text = Lines { text, length: 0 };
        let mut reader = csv::ReaderBuilder::new().has_headers(header).trim(csv::Trim::All).from_reader(text);
        let names: Vec<String> = if header {
            let names = reader.headers().map_err(|error| describe(&error))?;
            names.iter().map(str::to_owned).collect()
        } else {
            Vec::new()
        };
        let mut places: Option<Vec<usize>> = None;
        let mut rows: Vec<f64> = Vec::new();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(|error| describe(&error))? {
            let line = record.position().map_or(0, csv::Position::line);
            let places = match &mut places {
                Some(places) => places,
                none => none.insert(places_of(chosen, &names, record.len())?),
            };
            if places.is_empty() || rows.try_reserve(places.len()).is_err() {
                let found = if places.is_empty() { "none" } else { "more than fit into memory" };
                return Err(format!("line {line}: expected columns of numbers, found {found}"));
            }
            for &place in &*places {
                let text = record.get(place).unwrap_or_default();
                let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
                rows.push(number.ok_or_else(|| {
                    let found = if text.is_empty() { "nothing".to_owned() } else { format!("`{text}`") };
                    let column = column_text(place, &names);
                    format!("line {line}, {column}: expected a finite number, found {found}")
                })?);
            }
        }
        let places = places.ok_or("expected rows of numbers, found none")?;
        let columns = standardise(&mut rows, &places, &names)?;
        Ok(Self { columns, rows })
    }

    /// How many numbers a row has.
    #[must_use]
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Fills `out` with rows drawn at random, each as often as any other, standardised; with NaN where there are none.
    pub fn fill<T: Scalar>(&self, rng: &mut impl Rng, out: &mut [T]) {
        let width = self.width().max(1);
        let count = self.rows.len() / width;
        if count == 0 {
            return out.fill(T::nan());
        }
        for row in out.chunks_exact_mut(width) {
            let from = self.rows.get(rng.random_range(0..count) * width..).unwrap_or_default();
            row.iter_mut().zip(from).for_each(|(x, &value)| *x = T::from_f64(value));
        }
    }

    /// Maps standardised rows back to the file's units.
    pub fn restore<T: Scalar>(&self, rows: &mut [T]) {
        for row in rows.chunks_exact_mut(self.width().max(1)) {
            for (x, column) in row.iter_mut().zip(&self.columns) {
                *x = T::from_f64(column.mean + column.std * x.as_f64());
            }
        }
    }

    /// Maps rows in the file's units to standardised ones.
    pub fn standardise<T: Scalar>(&self, rows: &mut [T]) {
        for row in rows.chunks_exact_mut(self.width().max(1)) {
            for (x, column) in row.iter_mut().zip(&self.columns) {
                *x = T::from_f64((x.as_f64() - column.mean) / column.std);
            }
        }
    }

    /// The names of all columns; `None` for a file without a header.
    #[must_use]
    pub fn header(&self) -> Option<Vec<&str>> {
        let names = || self.columns.iter().map(|column| column.name.as_str());
        names().any(|name| !name.is_empty()).then(|| names().collect())
    }
}

/// The longest line, in bytes.
const LONGEST: usize = 1 << 24;

/// Text whose lines have an end: the reader keeps each in memory.
struct Lines<R> {
    text: R,
    /// How long the line is so far.
    length: usize,
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.text.read(buffer)?;
        let end = buffer.get(..read).unwrap_or_default().iter().rposition(|byte| b"\n\r".contains(byte));
        self.length = end.map_or(self.length + read, |end| read - end);
        if self.length > LONGEST {
            return Err(io::Error::other(format!("a line of more than {LONGEST} bytes")));
        }
        Ok(read)
    }
}

/// The places of the chosen columns.
fn places_of(
    chosen: Option<&[ColumnName]>,
    names: &[String],
    count: usize,
) -> std::result::Result<Vec<usize>, String> {
    let Some(chosen) = chosen else { return Ok((0..count).collect()) };
    let place = |column: &ColumnName| match column {
        ColumnName::Number(number) if (1..=count).contains(number) => Ok(number - 1),
        ColumnName::Number(number) => {
            Err(format!("expected columns from 1 to {count}, found column {number}"))
        }
        ColumnName::Name(name) => names.iter().position(|known| known == name).ok_or_else(|| {
            let known =
                if names.is_empty() { "a file without a header".to_owned() } else { names.join(", ") };
            format!("expected a column `{name}`, found {known}")
        }),
    };
    chosen.iter().map(place).collect()
}

fn column_text(place: usize, names: &[String]) -> String {
    let name = names.get(place).map(|name| format!(" ({name})"));
    format!("column {}{}", place + 1, name.unwrap_or_default())
}

/// Standardises each column in place.
fn standardise(
    rows: &mut [f64],
    places: &[usize],
    names: &[String],
) -> std::result::Result<Vec<Column>, String> {
    let width = places.len();
    let column = |(column, &place): (usize, &usize)| {
        let values: Vec<f64> = rows.iter().skip(column).step_by(width).copied().collect();
        let (mean, std) = crate::evaluate::mean_std(&values);
        if !(std > 0.0 && std.is_finite()) {
            let found = format!("{} rows with a standard deviation of {std}", values.len());
            return Err(format!(
                "{}: expected numbers that differ, found {found}",
                column_text(place, names)
            ));
        }
        Ok(Column { name: names.get(place).cloned().unwrap_or_default(), mean, std })
    };
    let columns = places.iter().enumerate().map(column).collect::<std::result::Result<Vec<_>, _>>()?;
    for row in rows.chunks_exact_mut(width.max(1)) {
        row.iter_mut().zip(&columns).for_each(|(x, column)| *x = (*x - column.mean) / column.std);
    }
    Ok(columns)
}

/// What the reader found, with the line.
fn describe(error: &csv::Error) -> String {
    let line = error.position().map(|position| format!("line {}: ", position.line())).unwrap_or_default();
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{line}expected {expected_len} columns, found {len}")
        }
        csv::ErrorKind::Utf8 { .. } => format!("{line}expected UTF-8 text, found other bytes"),
        _ => format!("{line}expected comma-separated values: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn name(name: &str) -> ColumnName {
        ColumnName::Name(name.to_owned())
    }

    #[track_caller]
    fn refused(text: &str, header: bool, chosen: Option<&[ColumnName]>, message: &str) {
        assert_eq!(Table::parse(text.as_bytes(), header, chosen).unwrap_err(), message);
    }

    #[test]
    fn columns_are_standardised_and_mapped_back() {
        let text = "age,name,height\n10, ann ,1.5\n 20,bob,1.75\n60,eve,1.25\n";
        let table = Table::parse(text.as_bytes(), true, Some(&[name("height"), name("age")])).unwrap();
        assert_eq!(table.header(), Some(vec!["height", "age"]));
        assert_eq!((table.columns[1].mean, table.columns[0].mean), (30.0, 1.5));
        let mut rows = table.rows.clone();
        table.restore(&mut rows);
        let expected = [1.5, 10.0, 1.75, 20.0, 1.25, 60.0];
        rows.iter().zip(expected).for_each(|(a, b)| approx::assert_relative_eq!(*a, b, max_relative = 1e-12));
        let sum: f64 = table.rows.iter().step_by(2).sum();
        let squares: f64 = table.rows.iter().step_by(2).map(|x| x * x).sum();
        approx::assert_abs_diff_eq!(sum, 0.0, epsilon = 1e-12);
        approx::assert_relative_eq!(squares, 3.0, max_relative = 1e-12);
    }

    #[test]
    fn rows_stay_together() {
        let text: String = (0..50).map(|i| format!("{i},{}\n", 2 * i)).collect();
        let table = Table::parse(text.as_bytes(), false, None).unwrap();
        let mut rows = vec![0.0_f64; 400];
        table.fill(&mut ChaCha8Rng::seed_from_u64(1), &mut rows);
        table.restore(&mut rows);
        assert!(rows.chunks_exact(2).all(|row| (row[1] - 2.0 * row[0]).abs() < 1e-9));
        let different =
            rows.chunks_exact(2).map(|row| row[0].round() as i64).collect::<std::collections::BTreeSet<_>>();
        assert!(different.len() > 40);
        assert_eq!(table.header(), None);
    }

    #[test]
    fn what_is_no_number_is_named_by_line_and_column() {
        refused(
            "a,b\n1,2\n3,\n",
            true,
            None,
            "line 3, column 2 (b): expected a finite number, found nothing",
        );
        refused("1,x\n", false, None, "line 1, column 2: expected a finite number, found `x`");
        refused("1,2\ninf,2\n", false, None, "line 2, column 1: expected a finite number, found `inf`");
        refused("1,2\n\"a\nb\",2\n", false, None, "line 2, column 1: expected a finite number, found `a\nb`");
        refused("1,2\n3\n", false, None, "line 2: expected 2 columns, found 1");
        refused("a,b\n", true, None, "expected rows of numbers, found none");
        refused("", true, None, "expected rows of numbers, found none");
        refused(
            "1,5\n2,5\n",
            false,
            None,
            "column 2: expected numbers that differ, found 2 rows with a standard deviation of 0",
        );
    }

    #[test]
    fn columns_that_are_not_there_are_named() {
        let text = "a,b\n1,2\n3,4\n";
        refused(text, true, Some(&[name("c")]), "expected a column `c`, found a, b");
        refused(text, true, Some(&[ColumnName::Number(3)]), "expected columns from 1 to 2, found column 3");
        refused("1,2\n", false, Some(&[name("a")]), "expected a column `a`, found a file without a header");
    }
}
