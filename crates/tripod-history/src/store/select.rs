//! Reading: from labels and a stretch of time to points.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::block::{Block, ReadError};
use super::column::Column;
use super::disk::Disk;
use super::shelves::{Piece, Points};
use super::span::Span;
use super::{Store, lock, read};
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::source::{Point, SelectError, SeriesPoints, Source, is_stale};

/// Why points were not gathered.
enum GatherError {
    /// A block went away or turned out to be damaged: without it the plan is another one.
    PlanAgain,
    Select(SelectError),
}

impl From<ReadError> for GatherError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged => Self::PlanAgain,
            ReadError::Io(path, error) => {
                Self::Select(SelectError::Read(format!("{}: {error}", path.display())))
            }
        }
    }
}

impl Source for Store {
    fn select(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Vec<SeriesPoints>, SelectError> {
        self.gather(start_ms, end_ms, step_ms, |pieces| {
            let mut gathering = Gathering::new(matchers, self.config.select_points_max);
            for piece in pieces {
                gathering.points_of(&*self.disk, piece)?;
            }
            Ok(gathering.finish())
        })
    }

    fn series(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<Labels>, SelectError> {
        self.gather(start_ms, end_ms, 0, |pieces| {
            let mut gathering = Gathering::new(matchers, usize::MAX);
            for piece in pieces {
                gathering.presence_of(&*self.disk, piece)?;
            }
            Ok(gathering.finish().into_iter().map(|series| series.labels).collect())
        })
    }
}

impl Store {
    /// Plans and gathers until both fit together: every repetition is without a block that the one
    /// before had, so there is an end.
    fn gather<T>(
        &self,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        mut gather: impl FnMut(&[Piece]) -> Result<T, GatherError>,
    ) -> Result<T, SelectError> {
        loop {
            let pieces = {
                let shelves = read(&self.shelves);
                let newest = lock(&self.recording).view();
                shelves.plan(&newest, Span::new(start_ms, end_ms), step_ms)
            };
            match gather(&pieces) {
                Ok(answer) => return Ok(answer),
                Err(GatherError::PlanAgain) => {}
                Err(GatherError::Select(error)) => return Err(error),
            }
        }
    }
}

/// Which columns of a list are wanted, and the series each belongs to.
type Wanted = Rc<[(u32, usize)]>;

struct Gathering<'a> {
    matchers: &'a [Matcher],
    points_max: usize,
    points: usize,
    series: Vec<(Arc<Labels>, Vec<Point>)>,
    /// By [`Column::key`]; the labels stay alive as long as the pieces.
    known: HashMap<usize, Option<usize>>,
    /// By the address of a list of series, which nearly all blocks share.
    lists: HashMap<*const Column, Wanted>,
}

impl<'a> Gathering<'a> {
    fn new(matchers: &'a [Matcher], points_max: usize) -> Self {
        Self {
            matchers,
            points_max,
            points: 0,
            series: Vec::new(),
            known: HashMap::new(),
            lists: HashMap::new(),
        }
    }

    /// Finds the series of a column, if it is wanted.
    fn series_of(&mut self, column: &Column) -> Option<usize> {
        let Self { matchers, series, known, .. } = self;
        *known.entry(column.key()).or_insert_with(|| {
            matchers.iter().all(|matcher| matcher.matches(&column.labels)).then(|| {
                series.push((Arc::clone(&column.labels), Vec::new()));
                series.len() - 1
            })
        })
    }

    fn wanted(&mut self, block: &Block) -> Wanted {
        if let Some(wanted) = self.lists.get(&block.series.as_ptr()) {
            return Rc::clone(wanted);
        }
        let columns = block.series.iter().enumerate();
        let wanted: Wanted = columns
            .filter_map(|(number, column)| Some((number as u32, self.series_of(column)?)))
            .collect();
        self.lists.insert(block.series.as_ptr(), Rc::clone(&wanted));
        wanted
    }

    fn count(&mut self, points: usize) -> Result<(), GatherError> {
        self.points += points;
        if self.points > self.points_max {
            let limit = self.points_max;
            return Err(GatherError::Select(SelectError::TooManyPoints { limit }));
        }
        Ok(())
    }

    fn points_of(&mut self, disk: &dyn Disk, piece: &Piece) -> Result<(), GatherError> {
        match &piece.points {
            Points::Block(block) => self.points_of_block(disk, block, piece),
            Points::Rows(table, rows) => {
                let rows: Vec<_> = rows.iter().filter(|row| piece.takes(row.time_ms)).collect();
                for (slot, column) in table.iter().enumerate() {
                    let Some(series) = column.as_ref().and_then(|own| self.series_of(own)) else {
                        continue;
                    };
                    let before = self.series[series].1.len();
                    self.series[series].1.extend(rows.iter().filter_map(|row| {
                        Some(Point { time_ms: row.time_ms, value: row.get(slot as u32)? })
                    }));
                    self.count(self.series[series].1.len() - before)?;
                }
                Ok(())
            }
        }
    }

    fn points_of_block(
        &mut self,
        disk: &dyn Disk,
        block: &Block,
        piece: &Piece,
    ) -> Result<(), GatherError> {
        let wanted = self.wanted(block);
        let taken: Vec<bool> = block.times.iter().map(|time| piece.takes(*time)).collect();
        // Series with gaps have fewer, so this may refuse what would just fit; it never reads more.
        self.count(wanted.len() * taken.iter().filter(|taken| **taken).count())?;
        let columns: Vec<u32> = wanted.iter().map(|(column, _)| *column).collect();
        let mut places = wanted.iter();
        block.read(disk, &columns, |_, presence, values| {
            let Some((_, series)) = places.next() else { return };
            let points = presence.rows().zip(values).filter(|(row, _)| taken[*row]);
            self.series[*series].1.extend(
                points.map(|(row, value)| Point { time_ms: block.times[row], value: *value }),
            );
        })?;
        Ok(())
    }

    /// Like [`Gathering::points_of`], with one point at most for each series.
    fn presence_of(&mut self, disk: &dyn Disk, piece: &Piece) -> Result<(), GatherError> {
        let Points::Block(block) = &piece.points else { return self.points_of(disk, piece) };
        let wanted = self.wanted(block);
        let taken: Vec<bool> = block.times.iter().map(|time| piece.takes(*time)).collect();
        let point = Point { time_ms: block.times[0], value: 0.0 };
        if taken.iter().all(|taken| *taken) {
            // Every column has a point.
            wanted.iter().for_each(|(_, series)| self.series[*series].1 = vec![point]);
            return Ok(());
        }
        let columns: Vec<u32> = wanted.iter().map(|(column, _)| *column).collect();
        let mut places = wanted.iter();
        block.read_presence(disk, &columns, |_, presence| {
            let Some((_, series)) = places.next() else { return };
            if presence.rows().any(|row| taken[row]) {
                self.series[*series].1 = vec![point];
            }
        })?;
        Ok(())
    }

    fn finish(self) -> Vec<SeriesPoints> {
        let found = self.series.into_iter().filter(|(_, points)| !points.is_empty());
        let mut series: Vec<_> = found
            .map(|(labels, points)| SeriesPoints {
                labels: Labels::clone(&labels),
                points: ascending(points),
            })
            .collect();
        series.sort_by(|one, other| one.labels.cmp(&other.labels));
        series
    }
}

/// Sorts points by time. A series that was retired and registered anew in one tick has a marker and
/// a value there, of which the value stays.
fn ascending(mut points: Vec<Point>) -> Vec<Point> {
    if !points.is_sorted_by(|one, next| one.time_ms < next.time_ms) {
        points.sort_by_key(|point| (point.time_ms, is_stale(point.value)));
        points.dedup_by_key(|point| point.time_ms);
    }
    points
}
