//! What a comparison prints: plain text that reads well in a terminal and in a code block.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use crate::bar::Bar;
use crate::series::Series;

/// One opponent's figures in a comparison.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) wall: Series,
    pub(crate) cpu: Series,
}

/// Draws wall and CPU time side by side, with `decimals` digits behind the point.
///
/// The last two columns are the medians as multiples of those of the first row.
pub(crate) fn comparison(rows: &[Row], decimals: usize) -> String {
    let header = ["", "wall", "min", "max", "spread", "CPU", "min", "max", "spread"];
    let mut cells = vec![header.map(str::to_owned).to_vec()];
    if let Some(first) = rows.first() {
        cells[0].extend(["wall", "CPU"].map(|what| format!("{what}/{}", first.name)));
        cells.extend(rows.iter().map(|row| row_cells(row, first, decimals)));
    }
    table(&cells)
}

fn row_cells(row: &Row, first: &Row, decimals: usize) -> Vec<String> {
    let mut cells = vec![row.name.clone()];
    for series in [&row.wall, &row.cpu] {
        cells.extend(self::cells(series, decimals));
    }
    for (own, first) in [(&row.wall, &first.wall), (&row.cpu, &first.cpu)] {
        cells.push(format!("{:.2}", own.median() / first.median()));
    }
    cells
}

/// Draws each bar with its figure.
pub(crate) fn bars(bars: &[Bar]) -> String {
    let header = ["", "figure", "at most", ""].map(str::to_owned).to_vec();
    let rows = bars.iter().map(|bar| {
        let verdict = if bar.is_met() { "met" } else { "MISSED" };
        vec![
            bar.what().to_owned(),
            format!("{:.3}", bar.figure()),
            format!("{:.3}", bar.limit()),
            verdict.to_owned(),
        ]
    });
    table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

/// The median, the smallest, the largest and the spread, with `decimals` digits behind the point.
pub(crate) fn cells(series: &Series, decimals: usize) -> [String; 4] {
    let [median, min, max] =
        [series.median(), series.min(), series.max()].map(|figure| format!("{figure:.decimals$}"));
    [median, min, max, format!("{:.0}%", series.spread() * 100.0)]
}

/// Aligns cells in columns: the first to the left, the others to the right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let drawn = match column {
                0 => write!(line, "  {cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
            drawn.expect("a string takes all that is written");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A whole number with its thousands apart, as 2,000.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with what it counts, as 1 thread or 2 threads.
pub(crate) fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Tells a person at the terminal what is going on; a record must not have it.
pub(crate) fn note(text: &str) {
    if io::stderr().is_terminal() {
        eprintln!("... {text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, wall: &[f64], cpu: &[f64]) -> Row {
        let series = |samples: &[f64]| Series::new(samples.iter().copied());
        Row { name: name.to_owned(), wall: series(wall), cpu: series(cpu) }
    }

    #[test]
    fn figures_are_compared_with_the_first_row() {
        let rows = [row("xargs", &[2.0, 1.0, 3.0], &[4.0]), row("other one", &[3.0], &[1.0, 1.0])];
        let expected = "
             wall  min  max  spread  CPU  min  max  spread  wall/xargs  CPU/xargs
  xargs       2.0  1.0  3.0    100%  4.0  4.0  4.0      0%        1.00       1.00
  other one   3.0  3.0  3.0      0%  1.0  1.0  1.0      0%        1.50       0.25
";
        assert_eq!(comparison(&rows, 1), expected[1..]);
    }

    #[test]
    fn a_bar_shows_its_figure_its_limit_and_whether_it_was_met() {
        let shown =
            bars(&[Bar::at_most("wall, map / xargs", 1.0, 1.5), Bar::at_most("CPU", 12.25, 1.5)]);
        let expected = "
                     figure  at most
  wall, map / xargs   1.000    1.500     met
  CPU                12.250    1.500  MISSED
";
        assert_eq!(shown, expected[1..]);
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (2_000, "2,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
