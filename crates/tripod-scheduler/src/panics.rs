//! Keeps panics of foreign code (futures, destructors, results) away from the scheduler.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `code` and returns the message of its panic, if it panics.
///
/// Whoever calls this must not look at what `code` borrowed after a panic, except to drop it.
pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(message)
}

/// Drops `value`; a panic of its destructor is logged and goes no further.
pub(crate) fn drop_quietly<V>(value: V, what: &str) {
    if let Err(message) = catch(|| drop(value)) {
        tracing::error!(what, message, "a destructor panicked");
    }
}

fn message(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "the panic carries no text".to_owned(),
    };
    // The payload's own destructor may panic too. What that panic carries is leaked, because its
    // destructor could go on like this for ever.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsOnDrop;

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_panic_is_answered_with_its_message() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch(|| panic!("plain")), Err::<(), _>("plain".to_owned()));
        assert_eq!(catch(|| panic!("number {}", 7)), Err::<(), _>("number 7".to_owned()));
    }

    #[test]
    fn destructors_that_panic_go_no_further_even_that_of_the_payload() {
        drop_quietly(PanicsOnDrop, "a value");
        let caught = catch(|| std::panic::panic_any(PanicsOnDrop));
        assert_eq!(caught, Err::<(), _>("the panic carries no text".to_owned()));
    }
}
