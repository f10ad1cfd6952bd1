//! Idle buffers, one list per size class.
//!
//! A list hands out what came back last (it is still in the processor's caches) and gives up what
//! came back first. It is plain data under the engine's lock; it neither allocates buffers nor frees
//! them.

use std::collections::VecDeque;

use crate::classes::SizeClasses;

/// The free lists of all classes.
#[derive(Debug)]
pub(crate) struct Pools {
    lists: Box<[VecDeque<Vec<u8>>]>,
}

/// Buffers taken out of the pools, to be dropped where no lock is held.
#[derive(Debug, Default)]
pub(crate) struct Victims {
    pub(crate) buffers: Vec<Vec<u8>>,
    pub(crate) bytes: u64,
}

impl Victims {
    fn push(&mut self, buffer: Vec<u8>) {
        self.bytes += buffer.len() as u64;
        self.buffers.push(buffer);
    }
}

impl Pools {
    pub(crate) fn new(classes: &SizeClasses) -> Self {
        Self { lists: (0..classes.count()).map(|_| VecDeque::new()).collect() }
    }

    pub(crate) fn has(&self, class: usize) -> bool {
        !self.lists[class].is_empty()
    }

    pub(crate) fn pop(&mut self, class: usize) -> Option<Vec<u8>> {
        self.lists[class].pop_back()
    }

    pub(crate) fn push(&mut self, class: usize, buffer: Vec<u8>) {
        self.lists[class].push_back(buffer);
    }

    /// Takes out at least `needed` bytes, or all there are.
    ///
    /// Takes the largest buffers until one of the smallest sufficient class covers the rest: few
    /// buffers go, and little more than what is needed.
    pub(crate) fn evict(&mut self, needed: u64, classes: &SizeClasses) -> Victims {
        let mut victims = Victims::default();
        while victims.bytes < needed {
            let rest = needed - victims.bytes;
            let filled = || (0..classes.count()).filter(|&class| self.has(class));
            let covering = filled().find(|&class| classes.size(class) as u64 >= rest);
            let Some(class) = covering.or_else(|| filled().next_back()) else {
                break;
            };
            // As many as fit into the rest, so that a class is looked for once and not per buffer.
            let wanted = (rest / classes.size(class) as u64).max(1);
            let list = &mut self.lists[class];
            let count = usize::try_from(wanted).map_or(list.len(), |wanted| wanted.min(list.len()));
            list.drain(..count).for_each(|buffer| victims.push(buffer));
        }
        victims
    }

    /// Takes out everything.
    pub(crate) fn drain(&mut self) -> Victims {
        let mut victims = Victims::default();
        for list in &mut self.lists {
            list.drain(..).for_each(|buffer| victims.push(buffer));
            list.shrink_to_fit();
        }
        victims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filled: &[usize], needed: u64, expected: &[usize]) {
        let classes = SizeClasses::new([1, 4, 16]).unwrap();
        let mut pools = Pools::new(&classes);
        for &size in filled {
            let class = classes.class_of(size).unwrap();
            pools.push(class, vec![0; size]);
        }
        let victims = pools.evict(needed, &classes);
        let sizes: Vec<usize> = victims.buffers.iter().map(Vec::len).collect();
        assert_eq!(sizes, expected);
        assert_eq!(victims.bytes, sizes.iter().sum::<usize>() as u64);
        let rest = pools.drain().buffers.len();
        assert_eq!(rest, filled.len() - sizes.len());
    }

    #[test]
    fn eviction_takes_few_buffers_and_little_more_than_needed() {
        check(&[1, 4, 16], 0, &[]);
        check(&[1, 4, 16], 1, &[1]);
        check(&[1, 4, 16], 2, &[4]);
        check(&[1, 4, 16], 17, &[16, 1]);
        check(&[1, 4, 4, 16, 16], 38, &[16, 16, 4, 4]);
        check(&[1, 1, 1, 16], 3, &[16]);
        check(&[1, 1, 1, 4], 6, &[4, 1, 1]);
    }

    #[test]
    fn eviction_of_more_than_there_is_takes_everything() {
        check(&[1, 4, 4, 16], u64::MAX, &[16, 4, 4, 1]);
    }

    #[test]
    fn the_newest_buffer_is_handed_out_and_the_oldest_evicted() {
        let classes = SizeClasses::new([1]).unwrap();
        let mut pools = Pools::new(&classes);
        for mark in 0..3 {
            pools.push(0, vec![mark]);
        }
        assert_eq!(pools.pop(0), Some(vec![2]));
        assert_eq!(pools.evict(1, &classes).buffers, [vec![0]]);
    }
}
