//! The background collector: one thread for all managers of the process that want it.
//!
//! It is started by the first of them and ends when none is left. It sleeps until the first of them has
//! something to do: for a tick, where memory is held, else as `engine/extras.rs` says; when none has, until
//! one of them is given something. A step is short, so that what threads wait for is never the collector.
//! Code of the user runs here, too: spillers, and the `Drop` of pooled objects.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::Engine;

/// How long one step lasts, or little more.
const STEP: Duration = Duration::from_micros(500);

/// The longest sleep while there is something to look at.
const SLEEP_MAX: Duration = Duration::from_secs(60);

static ROUNDS: Rounds = Rounds {
    state: Mutex::new(State { engines: Vec::new(), is_running: false, is_woken: false }),
    woken: Condvar::new(),
};

struct Rounds {
    state: Mutex<State>,
    woken: Condvar,
}

struct State {
    engines: Vec<Weak<Engine>>,
    is_running: bool,
    is_woken: bool,
}

/// Has `engine` collected from now on.
///
/// # Errors
/// If the system refuses a thread.
pub(crate) fn enlist(engine: &Arc<Engine>) -> io::Result<()> {
    let mut state = ROUNDS.lock();
    state.engines.push(Arc::downgrade(engine));
    state.is_woken = true;
    ROUNDS.woken.notify_one();
    if !state.is_running {
        thread::Builder::new().name("tripod-memory".to_owned()).spawn(run)?;
        state.is_running = true;
    }
    Ok(())
}

/// Ends the sleep: some engine has something to collect again, or is gone. Called with an engine's
/// lock held; the collector takes none while it holds its own.
pub(crate) fn wake() {
    let mut state = ROUNDS.lock();
    if state.is_running {
        state.is_woken = true;
        ROUNDS.woken.notify_one();
    }
}

fn run() {
    while let Some(engines) = ROUNDS.engines() {
        let sleep = engines.iter().filter_map(|engine| collect(engine)).min();
        drop(engines);
        ROUNDS.sleep(sleep);
    }
}

/// Does all that is due; answers when to come again, if at all before a wake.
fn collect(engine: &Engine) -> Option<Duration> {
    if engine.is_closed() {
        return None;
    }
    while !engine.collect(Instant::now(), STEP).is_finished {
        thread::yield_now();
    }
    engine.rest(Instant::now(), SLEEP_MAX)
}

impl Rounds {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are alive; `None` ends the thread, since there are none.
    fn engines(&self) -> Option<Vec<Arc<Engine>>> {
        let mut state = self.lock();
        state.engines.retain(|engine| engine.strong_count() > 0);
        let engines: Vec<_> = state.engines.iter().filter_map(Weak::upgrade).collect();
        state.is_running = !engines.is_empty();
        state.is_running.then_some(engines)
    }

    fn sleep(&self, time: Option<Duration>) {
        let state = self.lock();
        let awake = |state: &mut State| !state.is_woken;
        let mut state = match time {
            Some(time) => {
                let woken = self.woken.wait_timeout_while(state, time, awake);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.woken.wait_while(state, awake).unwrap_or_else(PoisonError::into_inner),
        };
        state.is_woken = false;
    }
}
