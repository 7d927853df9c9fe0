//! Text output of commands: numbers, sizes, periods, tables, without control characters.

use std::fmt::Write;

/// A number with commas: 10,000.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with a noun: 1 account, 2 accounts.
pub(super) fn counted(number: usize, one: &str) -> String {
    format!("{} {one}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A size in the largest unit that fits.
pub(super) fn size(bytes: Option<u64>) -> String {
    let Some(bytes) = bytes else { return "?".into() };
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{} {unit}", tenth(bytes as f64 / (1_u64 << shift) as f64)),
        None => format!("{bytes} B"),
    }
}

/// Rounded to one digit after the point.
pub(super) fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// A period in one unit.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A time without fractions of a second, as one word.
pub(super) fn moment(text: &str) -> String {
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text.to_owned(),
    }
}

/// Escapes what is not printable, such as terminal control characters, as JSON does: clients choose many of the texts that
/// commands show.
pub(super) fn printable(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for c in line.chars() {
        // JSON already escapes all non-printable ASCII except DEL.
        if c.is_ascii_graphic() || c == ' ' || !c.is_control() && c.escape_debug().len() == 1 {
            text.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

/// A table with a header: columns as wide as their content, two spaces apart, and no trailing spaces. An empty cell shows as `-`, so
/// that columns can be counted.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |text: &str| if text.is_empty() { "-".to_owned() } else { printable(text) };
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|text| cell(text)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|text| text.chars().count()).chain([header.get(column).map_or(0, |h| h.len())]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    let header = header.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&header).chain(&rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easily_read() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
        assert_eq!([counted(1, "account"), counted(10_000, "account")], ["1 account", "10,000 accounts"]);
        assert_eq!([None, Some(1), Some(1_536)].map(size), ["?", "1 B", "1.5 KiB"]);
        assert_eq!(["2026-11-29T17:00:04.120Z", "2026-11-29T17:00:04Z"].map(moment), ["2026-11-29T17:00:04Z"; 2]);
    }

    #[test]
    fn a_table_keeps_its_columns_whatever_clients_call_themselves() {
        let rows = [
            vec!["a@x/\u{e9}".to_owned(), String::new(), "z".into()],
            vec!["b".into(), "\u{1b}[2J".into(), "z".into()],
        ];
        let text = table(&["WHO", "CLIENT", "LAST"], &rows);
        assert_eq!(text, "WHO    CLIENT     LAST\na@x/\u{e9}  -          z\nb      \\u001b[2J  z\n");
    }
}
