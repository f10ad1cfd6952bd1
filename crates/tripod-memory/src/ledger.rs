//! The ledger: who may have how many bytes, and who is next.
//!
//! A plain state machine. It knows no clock, no lock, no waker and no buffer; it is driven by
//! requests, releases and cancellations and answers with the tickets it granted
//! ([`Ledger::drain_granted`]) and the idle bytes that must go ([`Ledger::deficit`]).
//!
//! # What is counted where
//! A *charge* (a reservation or a buffer handed out) counts at its node and at every node above it.
//! *Idle* bytes (buffers that rest in a pool) and *freeing* bytes (taken out of a pool, not yet back
//! with the system) count at the root alone. At every node, after every call, `charged <= limit`; at
//! the root `charged + freeing <= limit`, and once the deficit is evicted also
//! `charged + freeing + idle <= limit`.
//!
//! Idle bytes never stand in anyone's way: they count as room, and what a charge takes of them is
//! owed as a deficit.
//!
//! # Order
//! Requests that wait are looked at in the order of their tickets. A waiter that does not fit *closes*
//! the lowest node on its path that lacks room; whoever stands behind it and needs a closed node
//! waits too. It closes the lowest one alone: while a child is full, more room at its parent would not
//! help the waiter, so the child's siblings need not stand still for it. Once the child has room, the
//! waiter closes the parent in turn, so nobody is passed for ever.
//!
//! All waiters at one node have the same path, so only the first of each node can be next. A settling
//! costs time in proportion to the nodes that have waiters, not to the waiters.

use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
mod tests;

/// A place in line; lower is earlier.
pub(crate) type Ticket = u64;

/// An index into [`Ledger::nodes`].
pub(crate) type NodeId = usize;

/// The node above all others.
pub(crate) const ROOT: NodeId = 0;

/// What a charge stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes a [`Reservation`](crate::Reservation) promises.
    Reserved,
    /// Bytes of a buffer that is handed out.
    Used,
}

/// What became of a request that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Granted,
    Waiting(Ticket),
}

/// Why bytes were not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// More than the node may ever hold.
    Unsatisfiable,
    /// Not now: `node` has `free` bytes, or others stand in line before.
    Short { node: NodeId, free: u64 },
    /// As `Short`, but it will fit as soon as the bytes that are being freed are back.
    Freeing { node: NodeId, free: u64 },
}

/// The tree of budgets, its line of waiters and its sums. See the module's header.
#[derive(Debug)]
pub(crate) struct Ledger {
    nodes: Vec<Node>,
    /// The first waiter of every node that has one.
    heads: BTreeSet<(Ticket, NodeId)>,
    waiting: usize,
    next_ticket: Ticket,
    granted: Vec<Ticket>,
    reserved: u64,
    used: u64,
    idle: u64,
    freeing: u64,
    peak: u64,
}

#[derive(Debug)]
struct Node {
    parent: Option<NodeId>,
    limit: u64,
    charged: u64,
    peak: u64,
    line: BTreeMap<Ticket, u64>,
}

impl Node {
    fn new(parent: Option<NodeId>, limit: u64) -> Self {
        Self { parent, limit, charged: 0, peak: 0, line: BTreeMap::new() }
    }
}

impl Ledger {
    /// Makes a ledger with a root of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            nodes: vec![Node::new(None, limit)],
            heads: BTreeSet::new(),
            waiting: 0,
            next_ticket: 0,
            granted: Vec::new(),
            reserved: 0,
            used: 0,
            idle: 0,
            freeing: 0,
            peak: 0,
        }
    }

    /// Adds a node below `parent`. Its limit must not be above the parent's, so that a request which
    /// one node could hold is one that every node above it could hold.
    pub(crate) fn add_node(&mut self, parent: NodeId, limit: u64) -> NodeId {
        assert!(limit <= self.nodes[parent].limit, "a child's limit is within its parent's");
        self.nodes.push(Node::new(Some(parent), limit));
        self.nodes.len() - 1
    }

    /// Reserves `bytes`, or takes the last place in line. Zero bytes need no place.
    pub(crate) fn request(&mut self, node: NodeId, bytes: u64) -> Result<Answer, Refusal> {
        self.check_satisfiable(node, bytes)?;
        if bytes == 0 || (self.heads.is_empty() && self.lacking(node, bytes).is_none()) {
            self.charge(Kind::Reserved, node, bytes);
            self.note_peak();
            return Ok(Answer::Granted);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.enter_line(node, ticket, bytes);
        // Everyone before was already refused in this very state, so this can grant the new one alone.
        self.settle();
        if self.granted.last() == Some(&ticket) {
            self.granted.pop();
            return Ok(Answer::Granted);
        }
        Ok(Answer::Waiting(ticket))
    }

    /// Reserves `bytes` if a request made now would not wait.
    pub(crate) fn try_request(&mut self, node: NodeId, bytes: u64) -> Result<(), Refusal> {
        match self.request(node, bytes)? {
            Answer::Granted => Ok(()),
            Answer::Waiting(ticket) => {
                let refusal = self.shortage(node, bytes);
                self.leave_line(node, ticket);
                Err(refusal)
            }
        }
    }

    /// Charges `bytes` if they are free now, whoever waits.
    pub(crate) fn take(&mut self, kind: Kind, node: NodeId, bytes: u64) -> Result<(), Refusal> {
        self.check_satisfiable(node, bytes)?;
        if self.lacking(node, bytes).is_some() {
            return Err(self.shortage(node, bytes));
        }
        self.charge(kind, node, bytes);
        // A charge can free the way for others: a waiter that lacked room at the root may now lack it
        // at its own node first, and then closes only that.
        self.settle();
        Ok(())
    }

    /// Charges an idle buffer of `bytes` to `node`, whoever waits.
    pub(crate) fn take_pooled(&mut self, node: NodeId, bytes: u64) -> Result<(), Refusal> {
        self.check_satisfiable(node, bytes)?;
        if self.lacking(node, bytes).is_some() {
            return Err(self.shortage(node, bytes));
        }
        debug_assert!(bytes <= self.idle, "the buffer rested in a pool");
        self.idle -= bytes;
        self.charge(Kind::Used, node, bytes);
        self.settle();
        Ok(())
    }

    /// Takes `bytes` off `node` and every node above it.
    pub(crate) fn release(&mut self, kind: Kind, node: NodeId, bytes: u64) {
        self.discharge(kind, node, bytes);
        self.settle();
    }

    /// Takes a buffer's `bytes` off `node` and counts them as idle.
    pub(crate) fn release_to_pool(&mut self, node: NodeId, bytes: u64) {
        self.discharge(Kind::Used, node, bytes);
        self.idle += bytes;
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

    /// Idle bytes that must leave the pools because their room has been charged.
    pub(crate) fn deficit(&self) -> u64 {
        self.idle.saturating_sub(self.room(ROOT))
    }

    /// Takes `bytes` out of the idle ones, at least the deficit. What lies above the deficit (the
    /// answer) stays counted as *freeing* until [`Ledger::freed`] says that the system has it back.
    pub(crate) fn evict(&mut self, bytes: u64) -> u64 {
        let surplus = bytes - self.deficit();
        self.idle -= bytes;
        self.freeing += surplus;
        self.note_peak();
        surplus
    }

    /// Ends what [`Ledger::evict`] began.
    pub(crate) fn freed(&mut self, bytes: u64) {
        self.freeing -= bytes;
        self.settle();
    }

    /// The tickets granted since the last call, in the order of the grants.
    pub(crate) fn drain_granted(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.granted)
    }

    /// Bytes charged to `node`: reserved or handed out, there and below.
    pub(crate) fn charged(&self, node: NodeId) -> u64 {
        self.nodes[node].charged
    }

    /// The most that was ever charged to `node`.
    pub(crate) fn node_peak(&self, node: NodeId) -> u64 {
        self.nodes[node].peak
    }

    pub(crate) fn reserved(&self) -> u64 {
        self.reserved
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Bytes in pools or on their way from a pool back to the system.
    pub(crate) fn idle(&self) -> u64 {
        self.idle.min(self.room(ROOT)) + self.freeing
    }

    /// The most that was ever reserved, handed out and idle at the same time.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Grants every waiter whose turn it is. One pass is enough: a grant charges no node that an
    /// earlier waiter closed, nor any node below one.
    fn settle(&mut self) {
        let mut closed: Vec<NodeId> = Vec::new();
        let mut from = 0;
        while let Some(&(ticket, node)) = self.heads.range((from, ROOT)..).next() {
            from = ticket + 1;
            if self.path(node).any(|step| closed.contains(&step)) {
                continue;
            }
            let bytes = self.nodes[node].line[&ticket];
            match self.lacking(node, bytes) {
                Some(ROOT) => break,
                Some(full) => closed.push(full),
                None => {
                    self.leave_line(node, ticket);
                    self.charge(Kind::Reserved, node, bytes);
                    self.granted.push(ticket);
                }
            }
        }
        self.note_peak();
    }

    fn enter_line(&mut self, node: NodeId, ticket: Ticket, bytes: u64) {
        let line = &mut self.nodes[node].line;
        if line.is_empty() {
            self.heads.insert((ticket, node));
        }
        line.insert(ticket, bytes);
        self.waiting += 1;
    }

    fn leave_line(&mut self, node: NodeId, ticket: Ticket) -> Option<u64> {
        let line = &mut self.nodes[node].line;
        let bytes = line.remove(&ticket)?;
        if self.heads.remove(&(ticket, node))
            && let Some((&next, _)) = line.first_key_value()
        {
            self.heads.insert((next, node));
        }
        self.waiting -= 1;
        Some(bytes)
    }

    fn charge(&mut self, kind: Kind, node: NodeId, bytes: u64) {
        *self.sum(kind) += bytes;
        let mut next = Some(node);
        while let Some(step) = next {
            let node = &mut self.nodes[step];
            node.charged += bytes;
            node.peak = node.peak.max(node.charged);
            debug_assert!(node.charged <= node.limit, "no budget is passed");
            next = node.parent;
        }
    }

    fn discharge(&mut self, kind: Kind, node: NodeId, bytes: u64) {
        let sum = self.sum(kind);
        assert!(bytes <= *sum, "only what was charged is released");
        *sum -= bytes;
        let mut next = Some(node);
        while let Some(step) = next {
            let node = &mut self.nodes[step];
            node.charged -= bytes;
            next = node.parent;
        }
    }

    fn sum(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Reserved => &mut self.reserved,
            Kind::Used => &mut self.used,
        }
    }

    fn note_peak(&mut self) {
        // The deficit is left out: it is evicted before anyone makes use of its room.
        let committed = self.nodes[ROOT].charged + self.idle();
        self.peak = self.peak.max(committed);
    }

    /// `node` and all above it, the lowest first.
    fn path(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::successors(Some(node), |&step| self.nodes[step].parent)
    }

    /// What can still be charged to `node` itself; at the root, idle bytes count as room.
    fn room(&self, node: NodeId) -> u64 {
        let freeing = if node == ROOT { self.freeing } else { 0 };
        self.nodes[node].limit - self.nodes[node].charged - freeing
    }

    /// The lowest node on the path that lacks room for `bytes`.
    fn lacking(&self, node: NodeId, bytes: u64) -> Option<NodeId> {
        self.path(node).find(|&step| self.room(step) < bytes)
    }

    fn check_satisfiable(&self, node: NodeId, bytes: u64) -> Result<(), Refusal> {
        // Limits never grow on the way down, so the node's own is the least on its path.
        if bytes > self.nodes[node].limit { Err(Refusal::Unsatisfiable) } else { Ok(()) }
    }

    fn shortage(&self, node: NodeId, bytes: u64) -> Refusal {
        let at = self.lacking(node, bytes).unwrap_or(node);
        let free = self.room(at);
        if at == ROOT && free < bytes && bytes <= free + self.freeing {
            return Refusal::Freeing { node: at, free };
        }
        Refusal::Short { node: at, free }
    }
}
