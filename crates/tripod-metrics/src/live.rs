//! Subscriptions to the changes of a collector, as a dashboard needs them.
//!
//! One thread ticks and makes one frame for all; each subscriber takes its frames when it can, and one
//! that is slow is sent a key frame instead of what it missed. See [`stream`](crate::stream) for the
//! frames.

use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::snapshot::Snapshot;
use crate::stream::{Feed, FrameKind, Subscription, Take};

/// The feed, and who listens to it.
#[derive(Debug)]
pub(crate) struct Live {
    feed: Mutex<Feed>,
    subscribers: Mutex<Vec<Weak<Mailbox>>>,
}

#[derive(Debug)]
struct Mailbox {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug)]
struct State {
    subscription: Subscription<Arc<[u8]>>,
    waker: Option<Waker>,
    is_over: bool,
}

/// Receives the frames of a collector's live stream; dropping it ends the subscription.
///
/// Made by [`Sampler::subscribe`](crate::Sampler::subscribe). The first frame is a key frame.
#[derive(Debug)]
pub struct Subscriber {
    live: Arc<Live>,
    mailbox: Arc<Mailbox>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { feed: Mutex::new(Feed::new(epoch)), subscribers: Mutex::default() }
    }

    /// Sends what changed to every subscriber.
    pub(crate) fn tick(&self, snapshot: &Snapshot) {
        let frame = locked(&self.feed).tick(snapshot);
        let bytes: Arc<[u8]> = frame.bytes.into();
        self.for_each(|state| {
            state.subscription.offer(frame.kind, Arc::clone(&bytes));
        });
    }

    /// Tells every subscriber that nothing more will come.
    pub(crate) fn end(&self) {
        self.for_each(|state| state.is_over = true);
    }

    fn for_each(&self, mut change: impl FnMut(&mut State)) {
        let mailboxes: Vec<Arc<Mailbox>> = {
            let mut subscribers = locked(&self.subscribers);
            subscribers.retain(|subscriber| subscriber.strong_count() > 0);
            subscribers.iter().filter_map(Weak::upgrade).collect()
        };
        for mailbox in mailboxes {
            let waker = {
                let mut state = locked(&mailbox.state);
                change(&mut state);
                state.waker.take()
            };
            mailbox.arrived.notify_all();
            // Not under the lock: a waker is code of the user.
            waker.into_iter().for_each(Waker::wake);
        }
    }

    pub(crate) fn subscribe(self: &Arc<Self>) -> Subscriber {
        let state = State { subscription: Subscription::new(), waker: None, is_over: false };
        let mailbox = Arc::new(Mailbox { state: Mutex::new(state), arrived: Condvar::new() });
        locked(&self.subscribers).push(Arc::downgrade(&mailbox));
        Subscriber { live: Arc::clone(self), mailbox }
    }
}

impl Subscriber {
    /// Returns the next frame that is there already.
    #[must_use]
    pub fn try_next(&self) -> Option<Arc<[u8]>> {
        let take = locked(&self.mailbox.state).subscription.take();
        self.frame(take)
    }

    /// Waits for the next frame; `None` once the sampler has stopped.
    ///
    /// Cancel-safe: a frame is taken only when it is returned.
    pub async fn next(&self) -> Option<Arc<[u8]>> {
        let take = poll_fn(|context| {
            let mut state = locked(&self.mailbox.state);
            match state.subscription.take() {
                Take::Nothing if state.is_over => Poll::Ready(Take::Nothing),
                Take::Nothing => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
                taken => Poll::Ready(taken),
            }
        });
        self.frame(take.await)
    }

    /// As [`next`](Self::next), for a thread that may block; `None` also when `timeout` is over.
    #[must_use]
    pub fn next_within(&self, timeout: Duration) -> Option<Arc<[u8]>> {
        let state = locked(&self.mailbox.state);
        let mut taken = Take::Nothing;
        let waits = |state: &mut State| {
            taken = state.subscription.take();
            taken == Take::Nothing && !state.is_over
        };
        let waited = self.mailbox.arrived.wait_timeout_while(state, timeout, waits);
        drop(waited);
        self.frame(taken)
    }

    fn frame(&self, take: Take<Arc<[u8]>>) -> Option<Arc<[u8]>> {
        match take {
            Take::Nothing => None,
            Take::Frame(bytes) => Some(bytes),
            Take::KeyFrame => {
                let frame = locked(&self.live.feed).key_frame();
                debug_assert_eq!(frame.kind, FrameKind::Key);
                Some(frame.bytes.into())
            }
        }
    }
}
