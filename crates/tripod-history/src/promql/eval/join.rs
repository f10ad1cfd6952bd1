//! Operators between two vectors: which series meet, and what comes of it.

use std::collections::HashMap;

use super::super::error::QueryError;
use super::super::plan::{Cardinality, Join, Matching, Operator, SetOperator, Vector};
use super::super::series::{Builder, Matrix, Places, kept, with, without_name};
use super::steps::{Present, Steps};
use super::{Evaluation, Grid};
use crate::labels::{Labels, NAME_LABEL};
use crate::source::Point;

/// What an operator makes of two values; `None` if a comparison filters them out, else `kept` if it
/// does not.
pub(super) fn combine(
    operator: Operator,
    returns_bool: bool,
    lhs: f64,
    rhs: f64,
    kept: f64,
) -> Option<f64> {
    match operator {
        Operator::Compare(comparison) if !returns_bool => {
            comparison.holds(lhs, rhs).then_some(kept)
        }
        _ => Some(operator.apply(lhs, rhs)),
    }
}

impl Matching {
    /// What series that belong together share.
    fn shared(&self, labels: &Labels) -> Labels {
        match self {
            Self::On(names) => kept(labels, |name| names.iter().any(|own| own == name)),
            Self::Ignoring(names) => {
                kept(labels, |name| name != NAME_LABEL && names.iter().all(|own| own != name))
            }
        }
    }
}

/// The match group of each series on both sides.
struct Groups {
    lhs: Vec<usize>,
    rhs: Vec<usize>,
    count: usize,
}

impl Groups {
    fn new(matching: &Matching, lhs: &Matrix, rhs: &Matrix) -> Self {
        let mut by_labels: HashMap<Labels, usize> = HashMap::new();
        let mut groups_of = |matrix: &Matrix| -> Vec<usize> {
            let groups = matrix.iter().map(|series| {
                let next = by_labels.len();
                *by_labels.entry(matching.shared(&series.labels)).or_insert(next)
            });
            groups.collect()
        };
        let (lhs, rhs) = (groups_of(lhs), groups_of(rhs));
        Self { lhs, rhs, count: by_labels.len() }
    }
}

impl Evaluation<'_> {
    pub(super) fn set(
        &mut self,
        operator: SetOperator,
        lhs: &Vector,
        rhs: &Vector,
        matching: &Matching,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        let lhs = self.vector(lhs, grid)?;
        let rhs = self.vector(rhs, grid)?;
        let groups = Groups::new(matching, &lhs, &rhs);
        let (mut left, mut right) = (Steps::new(&lhs), Steps::new(&rhs));
        let (mut left_places, mut right_places) = (Places::new(&lhs), Places::new(&rhs));
        let mut builder = Builder::default();
        for time_ms in grid.times() {
            let (left, right) = (left.at(time_ms), right.at(time_ms));
            let occupied = |present: &[Present], group_of: &[usize]| {
                let mut occupied = vec![false; groups.count];
                present.iter().for_each(|present| occupied[group_of[present.series]] = true);
                occupied
            };
            let mut push = |places: &mut Places<'_>, present: &Present| {
                let place = places.of(present.series, &mut builder);
                builder.push(place, Point { time_ms, value: present.value })
            };
            let on_right = occupied(right, &groups.rhs);
            for present in left {
                let matched = on_right[groups.lhs[present.series]];
                if operator == SetOperator::Or || matched == (operator == SetOperator::And) {
                    push(&mut left_places, present)?;
                }
            }
            if operator == SetOperator::Or {
                let on_left = occupied(left, &groups.lhs);
                for present in right.iter().filter(|right| !on_left[groups.rhs[right.series]]) {
                    push(&mut right_places, present)?;
                }
            }
        }
        Ok(builder.finish())
    }

    pub(super) fn join(&mut self, plan: &Join, grid: Grid) -> Result<Matrix, QueryError> {
        let lhs = self.vector(&plan.lhs, grid)?;
        let rhs = self.vector(&plan.rhs, grid)?;
        let Groups { lhs: left_groups, rhs: right_groups, count } =
            Groups::new(&plan.matching, &lhs, &rhs);
        // From here on it is "many" and "one", whichever side they stand on.
        let swapped = matches!(plan.cardinality, Cardinality::OneToMany(_));
        let left = Side { matrix: lhs, group_of: left_groups };
        let right = Side { matrix: rhs, group_of: right_groups };
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let (mut many_steps, mut one_steps) = (Steps::new(&many.matrix), Steps::new(&one.matrix));
        let mut joined = Joined { plan, many: &many, one: &one, swapped, places: HashMap::new() };
        let mut builder = Builder::default();
        for time_ms in grid.times() {
            let (many, one) = (many_steps.at(time_ms), one_steps.at(time_ms));
            if !many.is_empty() && !one.is_empty() {
                let one = joined.by_group(one, count)?;
                joined.moment(time_ms, many, &one, &mut builder)?;
            }
        }
        Ok(builder.finish())
    }
}

struct Side {
    matrix: Matrix,
    group_of: Vec<usize>,
}

struct Joined<'a> {
    plan: &'a Join,
    many: &'a Side,
    one: &'a Side,
    /// Whether the side of which there is one is the left.
    swapped: bool,
    /// Where the result of a pair of series goes.
    places: HashMap<(usize, usize), usize>,
}

impl Joined<'_> {
    /// The value of each group on the side of which there is one.
    fn by_group(
        &self,
        present: &[Present],
        groups: usize,
    ) -> Result<Vec<Option<Present>>, QueryError> {
        let mut by_group: Vec<Option<Present>> = vec![None; groups];
        for present in present {
            let own = &mut by_group[self.one.group_of[present.series]];
            if let Some(other) = own.replace(*present) {
                let labels = |present: &Present| &*self.one.matrix[present.series].labels;
                return Err(QueryError::ManyToMany {
                    group: self.plan.matching.shared(labels(present)),
                    side: if self.swapped { "left" } else { "right" },
                    one: labels(present).clone(),
                    other: labels(&other).clone(),
                });
            }
        }
        Ok(by_group)
    }

    fn moment(
        &mut self,
        time_ms: i64,
        many: &[Present],
        one: &[Option<Present>],
        builder: &mut Builder,
    ) -> Result<(), QueryError> {
        let Join { operator, returns_bool, .. } = *self.plan;
        let one_to_one = matches!(self.plan.cardinality, Cardinality::OneToOne);
        let mut taken = vec![false; if one_to_one { one.len() } else { 0 }];
        for present in many {
            let group = self.many.group_of[present.series];
            let Some(other) = one[group] else { continue };
            let (lhs, rhs) = if self.swapped {
                (other.value, present.value)
            } else {
                (present.value, other.value)
            };
            let Some(value) = combine(operator, returns_bool, lhs, rhs, lhs) else { continue };
            if one_to_one && std::mem::replace(&mut taken[group], true) {
                return Err(QueryError::ManyToOne);
            }
            let pair = (present.series, other.series);
            let place = match self.places.get(&pair) {
                Some(place) => *place,
                None => {
                    let place = builder.place(self.labels_of(pair));
                    self.places.insert(pair, place);
                    place
                }
            };
            builder
                .push(place, Point { time_ms, value })
                .map_err(|error| if one_to_one { error } else { QueryError::NotUnique })?;
        }
        Ok(())
    }

    /// The labels of the result of a pair of series.
    fn labels_of(&self, (many, one): (usize, usize)) -> Labels {
        let many = &*self.many.matrix[many].labels;
        let one = &*self.one.matrix[one].labels;
        let mut labels =
            if self.plan.operator.drops_name() { without_name(many) } else { many.clone() };
        match &self.plan.cardinality {
            Cardinality::OneToOne => {
                labels = match &self.plan.matching {
                    Matching::On(names) => {
                        kept(&labels, |name| names.iter().any(|own| own == name))
                    }
                    Matching::Ignoring(names) => {
                        kept(&labels, |name| names.iter().all(|own| own != name))
                    }
                };
            }
            Cardinality::ManyToOne(include) | Cardinality::OneToMany(include) => {
                for name in include {
                    labels = with(&labels, name, one.get(name).unwrap_or_default());
                }
            }
        }
        if self.plan.returns_bool { without_name(&labels) } else { labels }
    }
}
