//! The largest or smallest few of the values offered.
//!
//! Which of several equal values stay is nobody's promise, but a dashboard that shows `topk` beside
//! one of Prometheus should not differ; so the values are kept in a binary heap that moves them as
//! Go's `container/heap` does. NaN goes first when something has to go.

use std::cmp::Ordering;

use super::super::steps::Present;

pub(super) struct Top {
    count: usize,
    largest: bool,
    /// The first is the next to go.
    heap: Vec<Present>,
}

impl Top {
    /// For at most `count` values, at least one.
    pub(super) fn new(count: usize, largest: bool) -> Self {
        Self { count, largest, heap: Vec::new() }
    }

    pub(super) fn offer(&mut self, offered: Present) {
        if self.heap.len() == self.count {
            let first = self.heap[0].value;
            if !(self.beats(offered.value, first) || first.is_nan()) {
                return;
            }
            self.remove_first();
        }
        self.heap.push(offered);
        self.rise(self.heap.len() - 1);
    }

    /// What stayed, best first, NaN last.
    pub(super) fn finish(self) -> Vec<Present> {
        let mut kept = self.heap;
        kept.sort_by(|a, b| {
            let ascending = a.value.partial_cmp(&b.value).unwrap_or(Ordering::Equal);
            let order = if self.largest { ascending.reverse() } else { ascending };
            a.value.is_nan().cmp(&b.value.is_nan()).then(order)
        });
        kept
    }

    fn beats(&self, a: f64, b: f64) -> bool {
        if self.largest { a > b } else { a < b }
    }

    /// Whether `a` has to go before `b`.
    fn goes_before(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.heap[a].value, self.heap[b].value);
        a.is_nan() || self.beats(b, a)
    }

    fn remove_first(&mut self) {
        let last = self.heap.len() - 1;
        self.heap.swap(0, last);
        self.sink(last);
        self.heap.pop();
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.goes_before(place, parent) {
                break;
            }
            self.heap.swap(parent, place);
            place = parent;
        }
    }

    /// Lets the first sink among the first `len`.
    fn sink(&mut self, len: usize) {
        let mut place = 0;
        loop {
            let left = 2 * place + 1;
            if left >= len {
                break;
            }
            let right = left + 1;
            let child = if right < len && self.goes_before(right, left) { right } else { left };
            if !self.goes_before(child, place) {
                break;
            }
            self.heap.swap(place, child);
            place = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(count: usize, largest: bool, values: &[f64], expected: &[f64]) {
        let mut top = Top::new(count, largest);
        for (series, value) in values.iter().enumerate() {
            top.offer(Present { series, value: *value });
        }
        let kept: Vec<f64> = top.finish().iter().map(|present| present.value).collect();
        assert_eq!(format!("{kept:?}"), format!("{expected:?}"));
    }

    #[test]
    fn the_best_stay_in_order() {
        let values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0];
        check(3, true, &values, &[9.0, 6.0, 5.0]);
        check(3, false, &values, &[1.0, 1.0, 2.0]);
        check(1, true, &values, &[9.0]);
        check(6, true, &values, &[9.0, 6.0, 5.0, 4.0, 3.0, 2.0]);
        check(20, false, &[2.0, 1.0], &[1.0, 2.0]);
    }

    #[test]
    fn nan_goes_first() {
        check(2, true, &[f64::NAN, 1.0, f64::NAN, 2.0], &[2.0, 1.0]);
        check(2, false, &[f64::NAN, f64::NAN, 1.0], &[1.0, f64::NAN]);
    }
}
