//! Parts of a date in UTC, from seconds since 1970.
//!
//! Years of the proleptic Gregorian calendar; leap seconds do not exist.

/// Which part of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DatePart {
    Minute,
    Hour,
    DayOfWeek,
    DayOfMonth,
    DayOfYear,
    DaysInMonth,
    Month,
    Year,
}

const DAY_S: i64 = 86_400;

impl DatePart {
    /// The part of the moment `unix_s`, of which a fraction is cut off towards zero; NaN if that is
    /// no moment.
    pub(super) fn of(self, unix_s: f64) -> f64 {
        // Beyond this, days no longer fit the arithmetic below; it is 290 million years away.
        if unix_s.is_nan() || unix_s.abs() > 9.2e15 {
            return f64::NAN;
        }
        let seconds = unix_s as i64;
        let (day, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
        let (year, month, day_of_month) = civil(day);
        let part = match self {
            DatePart::Minute => second / 60 % 60,
            DatePart::Hour => second / 3600,
            // 1970-01-01 was a Thursday.
            DatePart::DayOfWeek => (day + 4).rem_euclid(7),
            DatePart::DayOfMonth => day_of_month,
            DatePart::DayOfYear => day - days_before(year, 1) + 1,
            DatePart::DaysInMonth => days_before(year, month + 1) - days_before(year, month),
            DatePart::Month => month,
            DatePart::Year => year,
        };
        part as f64
    }
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01.
///
/// Counts in years that begin in March, so that the leap day comes last, and in cycles of 400 years
/// of 146,097 days.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let (cycle, of_cycle) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_cycle = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    (year, month, day_of_month)
}

/// The day on which a month begins, counted from 1970-01-01; month 13 is the January after.
fn days_before(year: i64, month: i64) -> i64 {
    let (year, month) = if month > 12 { (year + 1, month - 12) } else { (year, month) };
    let year_from_march = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let (cycle, of_cycle) = (year_from_march.div_euclid(400), year_from_march.rem_euclid(400));
    let of_year = (153 * month_from_march + 2) / 5;
    cycle * 146_097 + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year - 719_468
}

/// The day of a date, counted from 1970-01-01.
#[cfg(feature = "http")]
pub(crate) fn day_number(year: i64, month: i64, day_of_month: i64) -> Option<i64> {
    let in_month = (1..=12).contains(&month).then(|| days_before(year, month + 1))?;
    let day = days_before(year, month) + day_of_month - 1;
    (day_of_month >= 1 && day < in_month).then_some(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_1200_years_follows_the_one_before() {
        let (mut year, mut month, mut of_month) = civil(-220_000);
        for day in -219_999..220_000 {
            let next = civil(day);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + i64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, of_month) = match (of_month < length, month < 12) {
                (true, _) => (year, month, of_month + 1),
                (false, true) => (year, month + 1, 1),
                (false, false) => (year + 1, 1, 1),
            };
            assert_eq!(next, (year, month, of_month), "day {day}");
            assert_eq!(days_before(year, month) + of_month - 1, day);
        }
    }

    #[test]
    fn parts_of_a_known_moment() {
        // 2024-02-29 23:59:59 UTC, a Thursday.
        let parts = [
            (DatePart::Minute, 59.0),
            (DatePart::Hour, 23.0),
            (DatePart::DayOfWeek, 4.0),
            (DatePart::DayOfMonth, 29.0),
            (DatePart::DayOfYear, 60.0),
            (DatePart::DaysInMonth, 29.0),
            (DatePart::Month, 2.0),
            (DatePart::Year, 2024.0),
        ];
        for (part, expected) in parts {
            assert_eq!(part.of(1_709_251_199.0), expected, "{part:?}");
        }
        assert_eq!(DatePart::DayOfWeek.of(-1.0), 3.0);
        assert!(DatePart::Year.of(f64::NAN).is_nan());
    }
}
