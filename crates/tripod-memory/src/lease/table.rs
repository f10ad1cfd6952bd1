//! Which leases there are: a plain state machine, told the time.
//!
//! A lease is a place in the table and the generation of that place. A place is used again when its
//! lease is over, under the next generation, so an id never leads to another's content. Who works on a
//! content has it out of its place meanwhile; the table knows only that it is in use.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::LeaseId;

/// The leases of one manager, with contents of type `B`.
#[derive(Debug)]
pub(super) struct Table<B> {
    /// Tells the ids of this table from those of others.
    number: u32,
    places: Vec<Place<B>>,
    free: Vec<u32>,
    /// Those that end by themselves, the first to end first.
    ends: BTreeSet<(Instant, u32)>,
    count: u64,
}

#[derive(Debug)]
struct Place<B> {
    /// Goes up with each lease that ends here; 2^64 of them never do.
    generation: u64,
    lease: Option<Lease<B>>,
}

#[derive(Debug)]
struct Lease<B> {
    /// `None` if that is later than any time.
    ends: Option<Instant>,
    /// `None` while it is in use.
    content: Option<B>,
}

/// Why a lease gives nothing out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Over,
    InUse,
    OtherTable,
}

impl<B> Table<B> {
    pub(super) fn new(number: u32) -> Self {
        Self { number, places: Vec::new(), free: Vec::new(), ends: BTreeSet::new(), count: 0 }
    }

    /// Leases `content` until `ttl` after `now`.
    pub(super) fn begin(&mut self, now: Instant, ttl: Duration, content: B) -> LeaseId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, lease: None });
            self.places.len() as u32 - 1
        });
        let ends = now.checked_add(ttl);
        self.ends.extend(ends.map(|ends| (ends, place)));
        self.count += 1;
        let Place { generation, lease } = &mut self.places[place as usize];
        *lease = Some(Lease { ends, content: Some(content) });
        LeaseId { table: self.number, place, generation: *generation }
    }

    /// Takes the content to work on; it comes back with [`put_back`](Self::put_back).
    pub(super) fn take(&mut self, now: Instant, id: LeaseId) -> Result<B, Refusal> {
        self.alive(now, id)?.content.take().ok_or(Refusal::InUse)
    }

    /// Puts back what was taken; answers with it if the lease is over.
    pub(super) fn put_back(&mut self, now: Instant, id: LeaseId, content: B) -> Option<B> {
        match self.alive(now, id) {
            Ok(lease) => {
                lease.content = Some(content);
                None
            }
            // If nobody has come by since it ended, that is done here.
            Err(_) => {
                if self.lease(id).is_some() {
                    self.remove(id.place);
                }
                Some(content)
            }
        }
    }

    /// Moves the end to `ttl` after `now`.
    pub(super) fn renew(
        &mut self,
        now: Instant,
        id: LeaseId,
        ttl: Duration,
    ) -> Result<(), Refusal> {
        let ends = now.checked_add(ttl);
        let before = std::mem::replace(&mut self.alive(now, id)?.ends, ends);
        if let Some(before) = before {
            self.ends.remove(&(before, id.place));
        }
        self.ends.extend(ends.map(|ends| (ends, id.place)));
        Ok(())
    }

    /// Ends a lease before its time; answers with its content.
    pub(super) fn end(&mut self, now: Instant, id: LeaseId) -> Result<B, Refusal> {
        let content = self.take(now, id)?;
        self.remove(id.place);
        Ok(content)
    }

    /// Ends one lease whose time is over; none is left if there is no answer. There is no content if
    /// it is in use: then it comes back from [`put_back`](Self::put_back).
    pub(super) fn expire(&mut self, now: Instant) -> Option<Option<B>> {
        let &(ends, place) = self.ends.first()?;
        (ends <= now).then(|| self.remove(place))
    }

    /// Ends all; answers with what is not in use.
    pub(super) fn clear(&mut self) -> Vec<B> {
        let leased = |&place: &u32| self.places[place as usize].lease.is_some();
        let all: Vec<u32> = (0..self.places.len() as u32).filter(leased).collect();
        all.into_iter().filter_map(|place| self.remove(place)).collect()
    }

    /// When the first lease ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|&(ends, _)| ends)
    }

    /// How many leases have not been ended, those among them whose time is over.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn lease(&mut self, id: LeaseId) -> Option<&mut Lease<B>> {
        let place = self.places.get_mut(id.place as usize)?;
        if place.generation == id.generation { place.lease.as_mut() } else { None }
    }

    fn alive(&mut self, now: Instant, id: LeaseId) -> Result<&mut Lease<B>, Refusal> {
        if id.table != self.number {
            return Err(Refusal::OtherTable);
        }
        let lease = self.lease(id).ok_or(Refusal::Over)?;
        if lease.ends.is_some_and(|ends| ends <= now) { Err(Refusal::Over) } else { Ok(lease) }
    }

    /// Frees a place that has a lease.
    fn remove(&mut self, place: u32) -> Option<B> {
        let Place { generation, lease } = &mut self.places[place as usize];
        let lease = lease.take()?;
        *generation += 1;
        self.free.push(place);
        self.count -= 1;
        if let Some(ends) = lease.ends {
            self.ends.remove(&(ends, place));
        }
        lease.content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn table() -> (Table<&'static str>, Instant) {
        (Table::new(1), Instant::now())
    }

    #[test]
    fn a_lease_is_over_at_its_end_and_not_before_and_whether_or_not_it_was_collected() {
        let (mut table, start) = table();
        let id = table.begin(start, SECOND, "a");
        let last = start + SECOND - Duration::from_nanos(1);
        assert_eq!(table.take(last, id), Ok("a"));
        assert_eq!(table.put_back(last, id, "a"), None);
        assert_eq!(table.expire(last), None);
        let end = start + SECOND;
        assert_eq!(table.take(end, id), Err(Refusal::Over));
        assert_eq!(table.renew(end, id, SECOND), Err(Refusal::Over));
        assert_eq!(table.end(end, id), Err(Refusal::Over));
        assert_eq!(table.expire(end), Some(Some("a")));
        assert_eq!(table.expire(end), None);
        // Even by a clock that has gone back it does not come to life again.
        assert_eq!(table.take(start, id), Err(Refusal::Over));
        assert_eq!((table.count(), table.next_end()), (0, None));
    }

    #[test]
    fn a_place_that_is_used_again_is_not_reached_by_the_id_before() {
        let (mut table, start) = table();
        let first = table.begin(start, SECOND, "first");
        assert_eq!(table.end(start, first), Ok("first"));
        let second = table.begin(start, SECOND, "second");
        assert_eq!(second.place, first.place);
        assert_eq!(table.take(start, first), Err(Refusal::Over));
        assert_eq!(table.take(start, second), Ok("second"));
        // What belongs to a lease that is over does not take the place of another's.
        assert_eq!(table.put_back(start, first, "stray"), Some("stray"));
        assert_eq!(table.take(start, second), Err(Refusal::InUse));
    }

    #[test]
    fn what_is_in_use_when_its_time_is_over_goes_back_through_its_user() {
        let (mut table, start) = table();
        let (collected, found) = (table.begin(start, SECOND, "a"), table.begin(start, SECOND, "b"));
        assert_eq!((table.take(start, collected), table.take(start, found)), (Ok("a"), Ok("b")));
        assert_eq!(table.end(start, found), Err(Refusal::InUse));
        let end = start + SECOND;
        assert_eq!(table.expire(end), Some(None));
        assert_eq!(table.put_back(end, collected, "a"), Some("a"));
        assert_eq!(table.put_back(end, found, "b"), Some("b"));
        assert_eq!((table.expire(end), table.count()), (None, 0));
    }

    #[test]
    fn a_renewed_lease_ends_later_or_never_even_while_in_use() {
        let (mut table, start) = table();
        let id = table.begin(start, SECOND, "a");
        assert_eq!(table.take(start, id), Ok("a"));
        assert_eq!(table.renew(start, id, 3 * SECOND), Ok(()));
        assert_eq!(table.next_end(), Some(start + 3 * SECOND));
        assert_eq!(table.put_back(start + 2 * SECOND, id, "a"), None);
        assert_eq!(table.renew(start + 2 * SECOND, id, Duration::MAX), Ok(()));
        assert_eq!((table.next_end(), table.expire(start + 1000 * SECOND)), (None, None));
        assert_eq!(table.end(start + 1000 * SECOND, id), Ok("a"));
    }

    #[test]
    fn an_id_of_another_table_is_told_apart() {
        let (mut table, start) = table();
        table.begin(start, SECOND, "mine");
        let other = Table::new(2).begin(start, SECOND, "other");
        assert_eq!(table.take(start, other), Err(Refusal::OtherTable));
        assert_eq!(table.clear(), ["mine"]);
        assert_eq!(table.count(), 0);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..Default::default()
        })]

        /// Against a list of all leases there ever were.
        #[test]
        fn no_id_ever_leads_to_anothers_content(
            steps in proptest::collection::vec((0_u8..5, 0_usize..50, 1_u64..20), 1..200),
        ) {
            let mut now = Instant::now();
            let mut table = Table::new(0);
            let mut all: Vec<(LeaseId, Option<Instant>)> = Vec::new();
            for (step, which, ticks) in steps {
                let ttl = Duration::from_secs(ticks);
                let index = which % all.len().max(1);
                match step {
                    0 => {
                        let id = table.begin(now, ttl, all.len());
                        all.push((id, Some(now + ttl)));
                    }
                    1 => now += ttl,
                    2 => while table.expire(now).is_some() {},
                    _ if all.is_empty() => {}
                    3 => {
                        let (id, ends) = &mut all[index];
                        let expected = match ends.take_if(|ends| *ends > now) {
                            Some(_) => Ok(index),
                            None => Err(Refusal::Over),
                        };
                        proptest::prop_assert_eq!(table.end(now, *id), expected);
                    }
                    _ => {
                        let (id, ends) = &mut all[index];
                        let is_alive = ends.is_some_and(|ends| ends > now);
                        proptest::prop_assert_eq!(table.renew(now, *id, ttl).is_ok(), is_alive);
                        if is_alive {
                            *ends = Some(now + ttl);
                        }
                    }
                }
            }
        }
    }
}
