//! Two permits, ten mebibytes, five priorities: what starts first, what waits, and the numbers.
//!
//! Run it with `cargo run -p tripod --example join_three_legs`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::num::NonZeroUsize;
use std::time::Duration;

use tripod::{Drain, Error, Priority, Task, TaskStatus, Tripod};

const MIB: u64 = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let tripod = Tripod::builder()
        .memory_budget_bytes(10 * MIB)
        .concurrency(NonZeroUsize::new(2).expect("2 is not 0"))
        .build()?;
    start_in_order_of_priority(&tripod).await?;
    wait_for_memory(&tripod).await?;
    stop_in_time(&tripod).await?;

    let report = tripod.shutdown(Drain::Finish).await;
    println!("\nshutdown: {} finished, {} in all", report.finished, report.total());
    println!("\nfrom the metrics page:");
    let page = tripod.metrics().encode_text();
    let is_worth_a_line = |line: &&str| {
        let is_plain = !line.starts_with('#') && !line.contains("_bucket{");
        is_plain && !line.contains("_seconds") && !line.ends_with(" 0")
    };
    for line in page.lines().filter(is_worth_a_line) {
        println!("  {line}");
    }
    Ok(())
}

async fn start_in_order_of_priority(tripod: &Tripod) -> Result<(), Error> {
    println!("submitted from low to emergency, started:");
    let mut handles = Vec::new();
    for priority in Priority::ALL {
        let task =
            Task::with_context(|context| async move { println!("  {}", context.priority()) });
        handles.push(tripod.submit(task.priority(priority))?);
    }
    for handle in handles {
        handle.await?;
    }
    Ok(())
}

async fn wait_for_memory(tripod: &Tripod) -> Result<(), Error> {
    println!("\ntwo tasks of 6 MiB and a budget of 10 MiB:");
    let six_mib = |name: &'static str| {
        Task::new(async move {
            println!("  {name} runs");
            tokio::time::sleep(Duration::from_millis(20)).await;
            println!("  {name} is done");
        })
        .name(name)
        .memory_bytes(6 * MIB)
    };
    let first = tripod.submit(six_mib("first"))?;
    let second = tripod.submit(six_mib("second"))?;
    while second.status() != TaskStatus::WaitingForMemory {
        tokio::task::yield_now().await;
    }
    println!("  second is {}", second.status());
    first.await?;
    second.await?;
    Ok(())
}

async fn stop_in_time(tripod: &Tripod) -> Result<(), Error> {
    println!("\na task that never ends and one that cleans up:");
    let endless = Task::new(std::future::pending::<()>()).timeout(Duration::from_millis(20));
    let endless = tripod.submit(endless)?;
    let tidy = Task::with_context(|context| async move {
        context.cancelled().await;
        println!("  told to stop, cleaning up");
    });
    let tidy = tripod.submit(tidy.cancel_grace(Duration::from_secs(1)))?;
    println!("  {}", endless.await.expect_err("it never ends by itself"));
    tidy.cancel();
    println!("  {}", tidy.await.expect_err("it was cancelled"));
    Ok(())
}
