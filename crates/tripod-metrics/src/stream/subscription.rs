//! What one subscriber is still to be sent: at most two frames, however slow it is.

use std::collections::VecDeque;

use super::FrameKind;

/// The most frames that wait for one subscriber.
pub const QUEUED_FRAMES_MAX: usize = 2;

/// What became of a frame that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offered {
    /// It waits to be taken.
    Queued,
    /// It was dropped: the subscriber is to get a key frame, which contains it.
    Skipped,
}

/// What a subscriber that can take more is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Take<B> {
    /// Nothing until the next tick.
    Nothing,
    /// This frame.
    Frame(B),
    /// A key frame, to be made now by [`Encoder::key_frame`](super::Encoder::key_frame).
    ///
    /// Ticks that are offered before it is made are harmless: the decoder passes over delta frames
    /// that its state contains.
    KeyFrame,
}

/// The frames of one subscriber; `B` is what shares the bytes of a frame, such as `Arc<[u8]>`.
///
/// It begins with a key frame. Whoever ticks offers every frame to every subscription; whoever
/// sends takes when the subscriber has room. If a third frame would have to wait, all are dropped
/// and a key frame takes their place, made only when there is room to send it. So a slow subscriber
/// costs no memory, sees fewer ticks, and every state that it sees is a true one.
///
/// # Examples
/// ```
/// use tripod_metrics::stream::{FrameKind, Offered, Subscription, Take};
///
/// let mut subscription = Subscription::new();
/// assert_eq!(subscription.take(), Take::KeyFrame);
/// for frame in ["second", "third"] {
///     assert_eq!(subscription.offer(FrameKind::Delta, frame), Offered::Queued);
/// }
/// assert_eq!(subscription.take(), Take::Frame("second"));
/// subscription.offer(FrameKind::Delta, "fourth");
/// assert_eq!(subscription.offer(FrameKind::Delta, "fifth"), Offered::Skipped);
/// assert_eq!(subscription.take(), Take::KeyFrame);
/// assert_eq!(subscription.take(), Take::Nothing);
/// ```
#[derive(Debug, Clone)]
pub struct Subscription<B> {
    waiting: VecDeque<B>,
    key_frame_due: bool,
    skipped_count: u64,
}

impl<B> Subscription<B> {
    /// Creates one that is due a key frame.
    #[must_use]
    pub fn new() -> Self {
        Self {
            waiting: VecDeque::with_capacity(QUEUED_FRAMES_MAX),
            key_frame_due: true,
            skipped_count: 0,
        }
    }

    /// Queues a frame, or drops what waits in favour of a key frame.
    ///
    /// A key frame takes the place of all that waits.
    pub fn offer(&mut self, kind: FrameKind, frame: B) -> Offered {
        if kind == FrameKind::Key {
            self.skipped_count += self.waiting.len() as u64;
            self.waiting.clear();
            self.key_frame_due = false;
        } else if self.key_frame_due || self.waiting.len() == QUEUED_FRAMES_MAX {
            self.skipped_count += self.waiting.len() as u64 + 1;
            self.waiting.clear();
            self.key_frame_due = true;
            return Offered::Skipped;
        }
        self.waiting.push_back(frame);
        Offered::Queued
    }

    /// Takes what is to be sent next.
    pub fn take(&mut self) -> Take<B> {
        if std::mem::take(&mut self.key_frame_due) {
            return Take::KeyFrame;
        }
        self.waiting.pop_front().map_or(Take::Nothing, Take::Frame)
    }

    /// Has a key frame sent next; for a subscriber that says it has lost one.
    pub fn restart(&mut self) {
        self.skipped_count += self.waiting.len() as u64;
        self.waiting.clear();
        self.key_frame_due = true;
    }

    /// How many frames are waiting, at most [`QUEUED_FRAMES_MAX`].
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// How many frames the subscriber was not sent since it came.
    #[must_use]
    pub fn skipped_count(&self) -> u64 {
        self.skipped_count
    }
}

impl<B> Default for Subscription<B> {
    fn default() -> Self {
        Self::new()
    }
}
