//! Derives the diagram and the table of `docs/task-lifecycle.md` from [`State::after`].

use super::*;
use std::fmt::Write as _;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/task-lifecycle.md");

const STATES: [(State, &str); 9] = [
    (State::Queued, "Queued"),
    (State::WaitingForMemory, "WaitingForMemory"),
    (State::Running, "Running"),
    (State::Stopping(StopReason::Cancelled), "Cancelling (cancelled)"),
    (State::Stopping(StopReason::TimedOut), "Cancelling (timed out)"),
    (State::Ended(Outcome::Succeeded), "Succeeded"),
    (State::Ended(Outcome::Failed), "Failed"),
    (State::Ended(Outcome::Cancelled), "Cancelled"),
    (State::Ended(Outcome::TimedOut), "TimedOut"),
];

const EVENTS: [(Event, &str); 8] = [
    (Event::MemoryShort, "memory is short"),
    (Event::Overtaken, "overtaken"),
    (Event::Started, "started"),
    (Event::CancelRequested, "cancel"),
    (Event::TimeoutPassed, "timeout"),
    (Event::Returned, "returned"),
    (Event::Panicked, "panicked"),
    (Event::Dropped, "dropped"),
];

fn name(state: State) -> &'static str {
    STATES.iter().find(|(each, _)| *each == state).expect("every state has a name").1
}

/// A row for each state, a column for each event; an empty cell changes nothing.
fn table() -> String {
    let mut text = String::from("| state |");
    for (_, event) in EVENTS {
        write!(text, " {event} |").unwrap();
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(EVENTS.len()));
    for (state, label) in STATES {
        write!(text, "\n| **{label}** |").unwrap();
        for (event, _) in EVENTS {
            match state.after(event) {
                Some(next) => write!(text, " {} |", name(next)).unwrap(),
                None => text.push_str("  |"),
            }
        }
    }
    text
}

/// One edge for each pair of statuses, labelled with the events that lead from one to the other.
fn diagram() -> String {
    let mut edges: Vec<(TaskStatus, TaskStatus, Vec<&str>)> = Vec::new();
    for (state, _) in STATES {
        for (event, label) in EVENTS {
            let Some(next) = state.after(event) else {
                continue;
            };
            let (from, to) = (TaskStatus::from(state), TaskStatus::from(next));
            match edges.iter_mut().find(|edge| edge.0 == from && edge.1 == to) {
                Some(edge) if edge.2.contains(&label) => {}
                Some(edge) => edge.2.push(label),
                None => edges.push((from, to, vec![label])),
            }
        }
    }
    let mut text = String::from("```mermaid\nstateDiagram-v2\n    [*] --> Queued: submit");
    for (from, to, labels) in edges {
        write!(text, "\n    {from:?} --> {to:?}: {}", labels.join(", ")).unwrap();
    }
    text.push_str("\n```");
    text
}

#[test]
fn the_document_shows_the_diagram_and_the_table_of_the_code() {
    let document = std::fs::read_to_string(DOCUMENT).expect("docs/task-lifecycle.md is readable");
    for derived in [diagram(), table()] {
        assert!(document.contains(&derived), "the document lacks this text:\n\n{derived}\n");
    }
}

#[test]
fn an_ended_task_never_moves_and_every_other_state_can_reach_an_end() {
    for (state, label) in STATES {
        let next: Vec<State> = EVENTS.iter().filter_map(|(event, _)| state.after(*event)).collect();
        assert_eq!(TaskStatus::from(state).is_final(), next.is_empty(), "{label}");
        let ends = next.iter().any(|next| matches!(next, State::Ended(_)));
        assert_eq!(!next.is_empty(), ends, "{label}");
    }
}

#[test]
fn a_task_that_was_told_to_stop_never_succeeds() {
    for reason in [StopReason::Cancelled, StopReason::TimedOut] {
        for (event, label) in EVENTS {
            let next = State::Stopping(reason).after(event);
            assert_ne!(next, Some(State::Ended(Outcome::Succeeded)), "{label}");
        }
    }
}
