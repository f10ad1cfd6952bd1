//! Pressure stall information: how long tasks stalled for memory.
//!
//! The file has a line for `some` and one for `full`, each with averages in per cent and a total:
//! `some avg10=0.12 avg60=0.05 avg300=0.00 total=1234`.

/// The averages over 10 seconds, in per cent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Psi {
    pub(super) some_avg10: Option<f64>,
    pub(super) full_avg10: Option<f64>,
}

impl Psi {
    /// Reads what it knows and passes over the rest.
    pub(super) fn parse(text: &str) -> Self {
        let mut psi = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let place = match words.next() {
                Some("some") => &mut psi.some_avg10,
                Some("full") => &mut psi.full_avg10,
                _ => continue,
            };
            *place = words.find_map(|word| word.strip_prefix("avg10=")).and_then(percent);
        }
        psi
    }
}

fn percent(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value| (0.0..=100.0).contains(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, some_avg10: Option<f64>, full_avg10: Option<f64>) {
        assert_eq!(Psi::parse(text), Psi { some_avg10, full_avg10 }, "{text:?}");
    }

    #[test]
    fn the_averages_over_ten_seconds_are_read() {
        let text = "some avg10=1.53 avg60=0.87 avg300=0.20 total=8213312\n\
                    full avg10=0.25 avg60=0.10 avg300=0.02 total=3121\n";
        check(text, Some(1.53), Some(0.25));
    }

    #[test]
    fn what_is_not_there_or_makes_no_sense_is_none() {
        check("", None, None);
        check("some avg10=2.00", Some(2.0), None);
        check("full total=9 avg10=100.00 avg60=0.00", None, Some(100.0));
        check("some avg60=2.00 total=1\nfull\n", None, None);
        check("some avg10=NaN\nfull avg10=inf", None, None);
        check("some avg10=-1.0\nfull avg10=100.01", None, None);
        check("some avg10=\nfull avg10=1,5", None, None);
        check("sometimes avg10=1.0\n\0\u{fffd} avg10=3\n\n\n", None, None);
    }
}
