//! What a run prints.

use std::fmt::Write;

/// Names and values in the order of their adding.
#[derive(Debug, Default)]
pub struct Report(Vec<(&'static str, f64)>);

impl Report {
    /// Adds a figure; its unit is the end of its name.
    pub fn add(&mut self, name: &'static str, value: f64) -> &mut Report {
        self.0.push((name, value));
        self
    }

    /// One line of JSON, or a line per figure.
    pub fn text(&self, json: bool) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            let comma = if text.is_empty() { "" } else { ", " };
            let written = match json {
                true => write!(text, "{comma}\"{name}\": {value:.3}"),
                false => writeln!(text, "{name:<28} {value:>12.3}"),
            };
            debug_assert!(written.is_ok(), "a String takes everything");
        }
        if json { format!("{{{text}}}\n") } else { text }
    }
}

/// The value below which `share` of the sorted values lie.
pub fn percentile(sorted: &[u32], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_object_on_one_line() {
        let mut report = Report::default();
        report.add("cpu_us", 1.5).add("wall_s", 2.0);
        assert_eq!(report.text(true), "{\"cpu_us\": 1.500, \"wall_s\": 2.000}\n");
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u32> = (1..=101).collect();
        assert_eq!(percentile(&values, 0.5), 51.0);
        assert_eq!(percentile(&values, 0.99), 100.0);
        assert_eq!(percentile(&[7], 0.99), 7.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
