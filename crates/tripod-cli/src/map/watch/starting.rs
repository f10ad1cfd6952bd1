//! Commands that are being started: finds their processes before whoever starts them tells.
//!
//! The thread that starts a command has to get a processor before it can tell which process that
//! is. Where commands take all processors this was seen to last 134 ms (2026-11-25), in which the
//! command runs already. It is known by its marker once it executes its program; until then it has
//! no memory of its own.

use super::MARKER;
use super::watched::{Phase, Watched};
use crate::process::tree;

/// Finds the processes of commands that are being started.
///
/// What such a command has left behind already bears its marker too, and may be taken for it: who
/// starts it has the last word.
pub(super) fn find(commands: &mut [Watched]) {
    let is_starting = |command: &Watched| command.phase == Phase::Starting;
    if !commands.iter().any(is_starting) {
        return;
    }
    // What cannot be read for a shortage is left for the next look.
    for pid in tree::own_children().unwrap_or_default() {
        if commands.iter().any(|command| command.phase == Phase::Running(pid)) {
            continue;
        }
        let Some(marker) = tree::environment_variable(pid, MARKER) else { continue };
        let mut starting = commands.iter_mut().filter(|command| is_starting(command));
        if let Some(command) = starting.find(|command| command.marker == marker) {
            command.phase = Phase::Running(pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use tripod::{Drain, Tripod};

    use super::super::watched::tests::{command, context};
    use super::*;

    #[tokio::test]
    async fn a_command_that_is_being_started_is_known_by_its_marker() {
        let tripod = Tripod::builder().build().unwrap();
        let context = context(&tripod, 0).await;
        let phases = [Phase::Running(1), Phase::Starting, Phase::Starting, Phase::Ended];
        let mut commands: Vec<_> =
            (1..).zip(phases).map(|(id, phase)| command(id, &context, phase)).collect();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read line"])
            .env(MARKER, &commands[2].marker)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // In the middle of an exec the environment is empty: what a look misses, a later one finds.
        let mut looks = 0..10_000;
        while commands[2].phase == Phase::Starting && looks.next().is_some() {
            find(&mut commands);
        }
        let found: Vec<_> = commands.iter().map(|command| command.phase).collect();
        assert_eq!(found, [phases[0], phases[1], Phase::Running(pid), phases[3]]);
        drop(child.stdin.take());
        child.wait().unwrap();
        tripod.shutdown(Drain::Now).await;
    }
}
