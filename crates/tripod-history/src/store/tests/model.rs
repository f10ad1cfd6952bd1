//! A map of points knows what a store has to answer.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Action {
    /// Milliseconds to go on, and for each series whether it has a value, and which.
    Tick(i64, [Option<f64>; 3]),
    Retire(usize),
    Maintain(bool),
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    let value = prop_oneof![
        (0_u32..100).prop_map(f64::from),
        any::<f64>(),
        Just(-0.0),
        Just(f64::INFINITY)
    ];
    let cell = prop::option::weighted(0.8, value);
    prop_oneof![
        20 => (1_i64..4000, [cell.clone(), cell.clone(), cell])
            .prop_map(|(step, values)| Action::Tick(step, values)),
        1 => (0_usize..3).prop_map(Action::Retire),
        3 => any::<bool>().prop_map(Action::Maintain),
        1 => Just(Action::Reopen),
    ]
}

/// A store that keeps everything in its finest tier, beside what it has to hold.
struct Pair {
    disk: Arc<SimDisk>,
    store: Store,
    columns: [Option<ColumnId>; 3],
    model: [Points; 3],
    now_ms: i64,
}

fn config() -> StoreConfig {
    let mut config = small();
    config.tiers[0].keep = Duration::from_secs(1 << 30);
    config.merge_rows = 12;
    config
}

impl Pair {
    fn act(&mut self, action: &Action) {
        match action {
            Action::Tick(step, values) => self.tick(*step, values),
            Action::Retire(number) => {
                if let Some(column) = self.columns[*number].take() {
                    // The marker shares a row with the next tick, which comes at that time or later.
                    self.now_ms += 1;
                    self.store.retire(column, self.now_ms);
                    self.store.append(self.now_ms, &[]).expect("time goes on");
                    self.model[*number].insert(self.now_ms, crate::STALE_NAN.to_bits());
                }
            }
            Action::Maintain(all) => {
                let done = if *all {
                    self.store.flush(self.now_ms)
                } else {
                    self.store.maintain(self.now_ms)
                };
                done.expect("a disk that works");
            }
            Action::Reopen => {
                self.store.flush(self.now_ms).expect("a disk that works");
                self.columns = [None; 3];
                let (store, findings) = open(&self.disk, config(), self.now_ms);
                assert_eq!(findings, []);
                self.store = store;
            }
        }
    }

    fn tick(&mut self, step: i64, values: &[Option<f64>; 3]) {
        self.now_ms += step;
        let mut tick = Vec::new();
        for (number, value) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            let kind = if number == 0 { ColumnKind::Cumulative } else { ColumnKind::Gauge };
            let labels = named(&number.to_string());
            let column =
                *self.columns[number].get_or_insert_with(|| self.store.column(&labels, kind));
            tick.push((column, *value));
            self.model[number].insert(self.now_ms, value.to_bits());
        }
        self.store.append(self.now_ms, &tick).expect("time goes on");
    }

    fn check(&self, from: i64, to: i64) {
        for (number, model) in self.model.iter().enumerate() {
            let expected: Vec<_> =
                model.range(from..=to).map(|(time, bits)| (*time, *bits)).collect();
            assert_eq!(bits(&points(&self.store, &number.to_string(), from, to, 0)), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_finest_tier_gives_back_every_point_whatever_happens_between(
        actions in prop::collection::vec(action(), 1..120),
        ranges in prop::collection::vec((0_i64..300_000, 0_i64..100_000), 4),
    ) {
        let disk = Arc::new(SimDisk::default());
        let (store, _) = open(&disk, config(), 0);
        let model = [Points::new(), Points::new(), Points::new()];
        let mut pair = Pair { disk, store, columns: [None; 3], model, now_ms: 0 };
        for action in &actions {
            pair.act(action);
        }
        pair.check(i64::MIN, i64::MAX);
        for (from, len) in ranges {
            pair.check(from, from + len);
        }
    }
}

/// As PromQL counts it: what came after a fall counts from 0.
fn increase(points: &[(i64, f64)]) -> f64 {
    let grown = |pair: &[(i64, f64)]| {
        let (before, after) = (pair[0].1, pair[1].1);
        if after < before { after } else { after - before }
    };
    points.windows(2).map(grown).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn at_any_resolution_points_are_real_and_growth_is_exact(
        ticks in prop::collection::vec((1_i64..3000, 0_u32..30, 0_u32..25), 2..500),
        step_ms in 0_i64..30_000,
    ) {
        let disk = Arc::new(SimDisk::default());
        let (mut store, _) = open(&disk, small(), 0);
        let (mut now_ms, mut value, mut all) = (0, 0.0, Vec::new());
        for (step, grow, event) in ticks {
            now_ms += step;
            value = if grow == 0 { 1.0 } else { value + f64::from(grow) };
            let column = store.column(&named("count"), ColumnKind::Cumulative);
            store.append(now_ms, &[(column, value)]).expect("time goes on");
            all.push((now_ms, value));
            store.maintain(now_ms).expect("a disk that works");
            if event == 0 {
                store.flush(now_ms).expect("a disk that works");
                store = open(&disk, small(), now_ms).0;
            }
        }
        let found = points(&store, "count", 0, i64::MAX, step_ms);
        let found: Vec<_> = found.iter().map(|point| (point.time_ms, point.value)).collect();
        prop_assert!(found.iter().all(|point| all.contains(point)));
        // The coarsest tier keeps all, so nothing is too old; the newest is there in any case.
        prop_assert_eq!(found.last(), all.last());
        prop_assert_eq!(found.first(), all.first());
        prop_assert_eq!(increase(&found), increase(&all));
    }
}
