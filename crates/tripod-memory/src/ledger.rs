//! The ledger: who may have how many bytes, and who is next.
//!
//! A plain state machine. It knows no clock, no lock, no waker and no buffer; it is driven by
//! requests, releases and cancellations and answers with the tickets it granted
//! ([`Ledger::drain_granted`]) and the bytes whose return would grant the next ([`Ledger::deficit`]).
//! It never gives memory back by itself: whoever drives it does, and says so with
//! [`Ledger::uncommit`].
//!
//! # What is counted where
//! | | at its node and those above, below the root | at the root |
//! |---|---|---|
//! | reserved | counts | counts |
//! | used: buffers handed out | counts | does not count |
//! | committed: memory the pools have from the system | has no node | counts |
//!
//! Buffers lie in committed memory, so the root counts that instead, idle or not, until the system
//! has it back. At every node, after every call, what counts there is at most the limit: at the root
//! `reserved + committed <= limit`.
//!
//! # Order
//! Only reservations wait. They are looked at by priority, the higher first, and then in the order
//! of arrival. A waiter that does not fit *closes* the lowest node on its path that lacks room;
//! whoever stands behind it and needs a closed node waits too. It closes the lowest one alone: while
//! a child is full, more room at its parent would not help the waiter, so the child's siblings need
//! not stand still for it. Once the child has room, the waiter closes the parent in turn, so nobody
//! is passed for ever by those who stand behind it.
//!
//! A newcomer stands before all of lower priority, also at a node that they closed. A steady stream
//! of a higher priority can therefore starve a lower one; within one priority the order of arrival
//! holds. What does not wait ([`Ledger::take`], [`Ledger::commit`]) passes everyone, and can starve
//! them too: its driver must see to it that it ends.
//!
//! # Why one pass settles
//! A grant charges the nodes of a path on which nothing is closed, so none that a waiter before it
//! closed, and none below such a node either. Whatever held the earlier ones back, whichever order
//! they stand in, still does. All waiters at one node have the same path, so only the first of each
//! node can be next: a settling costs time in proportion to the nodes that have waiters, times their
//! depth, not to the waiters.
//!
//! The nodes that are closed stay marked until the next settling, and each call that can change them
//! ends in one. Two cannot: a reservation that finds nothing closed on its path, for the same reason
//! as a grant; and [`Ledger::commit`], because with less room at the root, whoever closed another
//! node still closes that.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

#[cfg(test)]
mod tests;

/// A place in line; lower is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    // The order of the fields is the order of the line.
    priority: Reverse<u8>,
    arrival: u64,
}

/// An index into [`Ledger::nodes`].
pub(crate) type NodeId = usize;

/// The node above all others.
pub(crate) const ROOT: NodeId = 0;

/// What is charged to a node, and to those above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// Bytes a [`Reservation`](crate::Reservation) promises. They count on the whole path.
    Reserved,
    /// The capacity of a buffer that is handed out. It counts on the path without the root, which
    /// counts the memory the buffer lies in.
    Used,
}

impl Charge {
    fn counts_at(self, node: NodeId) -> bool {
        self == Self::Reserved || node != ROOT
    }
}

/// What became of a request that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The bytes are charged.
    Granted,
    /// They will be when the ticket is among the granted ones.
    Waiting(Ticket),
}

/// Why bytes were not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// More than the node may ever hold.
    Unsatisfiable,
    /// Not now: `node` has `free` bytes, which are too few or for which others stand in line.
    Short { node: NodeId, free: u64 },
}

/// Whether anyone waits, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waits {
    /// Someone lacks room at the root and nowhere below it: committed bytes would help.
    pub(crate) at_root: bool,
    /// Someone waits at all.
    pub(crate) any: bool,
}

/// The tree of budgets, its line of waiters and its sums. See the module's header.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Ledger {
    nodes: Vec<Node>,
    /// The first waiter of every node that has one.
    heads: BTreeMap<Ticket, NodeId>,
    /// The nodes that are closed now, each once.
    closed: Vec<NodeId>,
    waiting: usize,
    arrivals: u64,
    granted: Vec<Ticket>,
    reserved: u64,
    /// Wide, because no limit holds for all buffers together.
    used: u128,
    committed: u64,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Node {
    parent: Option<NodeId>,
    limit: u64,
    charged: u64,
    peak: u64,
    line: BTreeMap<Ticket, u64>,
    /// The bytes wanted by the waiter that closed it.
    closed_for: Option<u64>,
}

impl Node {
    fn new(parent: Option<NodeId>, limit: u64) -> Self {
        Self { parent, limit, charged: 0, peak: 0, line: BTreeMap::new(), closed_for: None }
    }

    /// What can still be charged.
    fn room(&self) -> u64 {
        self.limit - self.charged
    }

    fn add(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.room(), "no budget is passed");
        self.charged += bytes;
        self.peak = self.peak.max(self.charged);
    }
}

impl Ledger {
    /// Makes a ledger with a root of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            nodes: vec![Node::new(None, limit)],
            heads: BTreeMap::new(),
            closed: Vec::new(),
            waiting: 0,
            arrivals: 0,
            granted: Vec::new(),
            reserved: 0,
            used: 0,
            committed: 0,
        }
    }

    /// Adds a node below `parent`. Its limit must not be above the parent's, so that a request which
    /// one node could hold is one that every node above it could hold.
    pub(crate) fn add_node(&mut self, parent: NodeId, limit: u64) -> NodeId {
        assert!(limit <= self.nodes[parent].limit, "a child's limit is within its parent's");
        self.nodes.push(Node::new(Some(parent), limit));
        self.nodes.len() - 1
    }

    /// Reserves `bytes`, or takes a place in line: behind those of the same `priority`, before all
    /// of a lower one. Zero bytes need no place.
    ///
    /// It can grant others, too: a newcomer that closes a node stops those behind it who need that
    /// node, and with them what they closed themselves is open again.
    pub(crate) fn request(
        &mut self,
        node: NodeId,
        bytes: u64,
        priority: u8,
    ) -> Result<Answer, Refusal> {
        self.check_satisfiable(node, bytes)?;
        if self.stop(node, bytes).is_none() {
            // Nothing on the path is closed, so this changes nothing for anyone who waits.
            self.charge(Charge::Reserved, node, bytes);
            return Ok(Answer::Granted);
        }
        let ticket = Ticket { priority: Reverse(priority), arrival: self.arrivals };
        self.arrivals += 1;
        self.enter_line(node, ticket, bytes);
        self.settle();
        if self.is_waiting(node, ticket) {
            return Ok(Answer::Waiting(ticket));
        }
        self.granted.retain(|&granted| granted != ticket);
        Ok(Answer::Granted)
    }

    /// Reserves `bytes` if a request of priority 0 made now would not wait.
    pub(crate) fn try_request(&mut self, node: NodeId, bytes: u64) -> Result<(), Refusal> {
        self.check_satisfiable(node, bytes)?;
        if let Some(at) = self.stop(node, bytes) {
            return Err(self.short(at));
        }
        self.charge(Charge::Reserved, node, bytes);
        Ok(())
    }

    /// Charges `bytes` if there is room for them now, whoever waits.
    pub(crate) fn take(&mut self, charge: Charge, node: NodeId, bytes: u64) -> Result<(), Refusal> {
        self.check_satisfiable(node, bytes)?;
        if let Some(full) = self.lacking(charge, node, bytes) {
            return Err(self.short(full));
        }
        self.charge(charge, node, bytes);
        // A charge can free the way for others: a waiter that lacked room at the root may now lack it
        // at its own node first, and then closes only that.
        self.settle();
        Ok(())
    }

    /// Takes `bytes` off `node` and every node above it.
    pub(crate) fn release(&mut self, charge: Charge, node: NodeId, bytes: u64) {
        self.discharge(charge, node, bytes);
        self.settle();
    }

    /// Counts `bytes` that are about to be asked of the system, if the root has room for them,
    /// whoever waits.
    pub(crate) fn commit(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.check_satisfiable(ROOT, bytes)?;
        if self.nodes[ROOT].room() < bytes {
            return Err(self.short(ROOT));
        }
        self.committed += bytes;
        self.nodes[ROOT].add(bytes);
        Ok(())
    }

    /// Ends what [`Ledger::commit`] began: the system has `bytes` back.
    pub(crate) fn uncommit(&mut self, bytes: u64) {
        assert!(bytes <= self.committed, "only what was committed goes back");
        self.committed -= bytes;
        self.nodes[ROOT].charged -= bytes;
        self.settle();
    }

    /// Leaves the line; `false` if `ticket` has been granted before (its bytes are still charged).
    pub(crate) fn cancel(&mut self, node: NodeId, ticket: Ticket) -> bool {
        let was_waiting = self.leave_line(node, ticket).is_some();
        if was_waiting {
            self.settle();
        }
        was_waiting
    }

    pub(crate) fn is_waiting(&self, node: NodeId, ticket: Ticket) -> bool {
        self.nodes[node].line.contains_key(&ticket)
    }

    /// The tickets granted since the last call, in the order of the grants.
    pub(crate) fn drain_granted(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.granted)
    }

    /// What the root lacks for the first waiter that is held up by the root alone: it has room at
    /// every node below, and none of them is closed. [Uncommitting](Ledger::uncommit) that many bytes
    /// grants it, fewer grant nobody. 0 if there is no such waiter. It may be more than is
    /// committed: then reservations must end, too.
    pub(crate) fn deficit(&self) -> u64 {
        let root = &self.nodes[ROOT];
        root.closed_for.map_or(0, |wanted| wanted - root.room())
    }

    /// Every node that is closed, in the order of the line, and what it lacks for the waiter that
    /// closed it: at the root as [`Ledger::deficit`].
    pub(crate) fn shortages(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.closed.iter().filter_map(|&node| {
            let at = &self.nodes[node];
            Some((node, at.closed_for? - at.room()))
        })
    }

    pub(crate) fn waits(&self) -> Waits {
        Waits { at_root: self.nodes[ROOT].closed_for.is_some(), any: self.waiting > 0 }
    }

    /// What counts at `node`, in bytes: at the root what is reserved and committed, elsewhere what is
    /// reserved or used there and below.
    pub(crate) fn charged(&self, node: NodeId) -> u64 {
        self.nodes[node].charged
    }

    /// The most that [`Ledger::charged`] ever was.
    pub(crate) fn node_peak(&self, node: NodeId) -> u64 {
        self.nodes[node].peak
    }

    pub(crate) fn reserved(&self) -> u64 {
        self.reserved
    }

    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    /// The most that was ever reserved and committed at the same time.
    pub(crate) fn peak(&self) -> u64 {
        self.nodes[ROOT].peak
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Grants every waiter whose turn it is, and marks what the others close.
    fn settle(&mut self) {
        for node in self.closed.drain(..) {
            self.nodes[node].closed_for = None;
        }
        let mut from = Bound::Unbounded;
        while let Some((&ticket, &node)) = self.heads.range((from, Bound::Unbounded)).next() {
            from = Bound::Excluded(ticket);
            if self.closed_on_path(node).is_some() {
                continue;
            }
            let bytes = self.nodes[node].line[&ticket];
            if let Some(full) = self.lacking(Charge::Reserved, node, bytes) {
                self.nodes[full].closed_for = Some(bytes);
                self.closed.push(full);
                if full == ROOT {
                    break; // which everyone behind needs
                }
            } else {
                self.leave_line(node, ticket);
                self.charge(Charge::Reserved, node, bytes);
                self.granted.push(ticket);
            }
        }
    }

    fn enter_line(&mut self, node: NodeId, ticket: Ticket, bytes: u64) {
        let line = &mut self.nodes[node].line;
        let head = line.first_key_value().map(|(&head, _)| head);
        line.insert(ticket, bytes);
        self.waiting += 1;
        if head.is_none_or(|head| ticket < head) {
            if let Some(overtaken) = head {
                self.heads.remove(&overtaken);
            }
            self.heads.insert(ticket, node);
        }
    }

    fn leave_line(&mut self, node: NodeId, ticket: Ticket) -> Option<u64> {
        let line = &mut self.nodes[node].line;
        let bytes = line.remove(&ticket)?;
        self.waiting -= 1;
        if self.heads.remove(&ticket).is_some()
            && let Some((&next, _)) = line.first_key_value()
        {
            self.heads.insert(next, node);
        }
        Some(bytes)
    }

    fn charge(&mut self, charge: Charge, node: NodeId, bytes: u64) {
        match charge {
            Charge::Reserved => self.reserved += bytes,
            Charge::Used => self.used += u128::from(bytes),
        }
        let mut next = Some(node);
        while let Some(step) = next {
            let at = &mut self.nodes[step];
            next = at.parent;
            if charge.counts_at(step) {
                at.add(bytes);
            }
        }
    }

    fn discharge(&mut self, charge: Charge, node: NodeId, bytes: u64) {
        let was_charged = match charge {
            Charge::Reserved => bytes <= self.reserved,
            Charge::Used => u128::from(bytes) <= self.used,
        };
        // A node below the root has no less than any below it, so a look at the lowest will do.
        let is_at_node = !charge.counts_at(node) || bytes <= self.nodes[node].charged;
        assert!(was_charged && is_at_node, "only what was charged is released");
        match charge {
            Charge::Reserved => self.reserved -= bytes,
            Charge::Used => self.used -= u128::from(bytes),
        }
        let mut next = Some(node);
        while let Some(step) = next {
            let at = &mut self.nodes[step];
            next = at.parent;
            if charge.counts_at(step) {
                at.charged -= bytes;
            }
        }
    }

    /// `node` and all above it, the lowest first.
    fn path(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::successors(Some(node), |&step| self.nodes[step].parent)
    }

    /// The lowest node on the path that counts `charge` and lacks room for `bytes`.
    fn lacking(&self, charge: Charge, node: NodeId, bytes: u64) -> Option<NodeId> {
        self.path(node).find(|&step| charge.counts_at(step) && self.nodes[step].room() < bytes)
    }

    fn closed_on_path(&self, node: NodeId) -> Option<NodeId> {
        self.path(node).find(|&step| self.nodes[step].closed_for.is_some())
    }

    /// The node that stops a reservation which stands behind everyone.
    fn stop(&self, node: NodeId, bytes: u64) -> Option<NodeId> {
        if bytes == 0 {
            return None;
        }
        self.lacking(Charge::Reserved, node, bytes).or_else(|| self.closed_on_path(node))
    }

    fn check_satisfiable(&self, node: NodeId, bytes: u64) -> Result<(), Refusal> {
        // Limits never grow on the way down, so the node's own is the least on its path.
        if bytes > self.nodes[node].limit { Err(Refusal::Unsatisfiable) } else { Ok(()) }
    }

    fn short(&self, node: NodeId) -> Refusal {
        Refusal::Short { node, free: self.nodes[node].room() }
    }
}
