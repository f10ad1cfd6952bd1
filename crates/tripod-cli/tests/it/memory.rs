//! The memory budget holds, whatever the commands want.

use crate::harness::{Bench, hog, quiet_machine, records, stderr};

const MIB: u64 = 1 << 20;

/// Commands of the given sizes in MiB under a budget: all must finish within it plus a tenth.
///
/// How far growth gets between two looks is a race, so the test holds the machine alone.
fn check(arguments: &[&str], sizes: &[u64], budget_mib: u64) -> serde_json::Value {
    let program = format!("{} {{}} 0.2", hog().display());
    let budget = format!("{budget_mib}M");
    let input: String = sizes.iter().map(|size| format!("{size}\n")).collect();
    let arguments = [&["--json", "--mem", &budget], arguments, &[&program]].concat();
    let machine = quiet_machine();
    let output = Bench::on_quiet_machine(&machine).run(&arguments, input.as_bytes());
    let records = records(&output);
    let (summary, commands) = records.split_last().unwrap();
    assert_eq!(output.status.code(), Some(0), "{summary}\n{}", stderr(&output));
    assert_eq!(commands.len(), sizes.len());
    for command in commands {
        let wanted: u64 = command["argument"].as_str().unwrap().parse().unwrap();
        assert_eq!(command["stdout"], format!("{wanted}\n"));
    }
    let peak = summary["memory_peak_bytes"].as_u64().unwrap();
    let largest = sizes.iter().max().unwrap() * MIB;
    assert!(peak >= largest, "{summary}: the peak is measured");
    assert!(peak <= budget_mib * MIB * 11 / 10, "{summary}: the budget holds");
    summary.clone()
}

#[test]
fn commands_that_together_want_three_times_the_budget_all_finish_within_it() {
    // 12 x 150 MiB against 600 MiB: each grows far beyond the 70 MiB set aside for it.
    let summary = check(&["-j", "8"], &[150; 12], 600);
    let (waits, stops) = (&summary["memory_waits"], &summary["memory_stops"]);
    assert!(waits.as_u64().unwrap() + stops.as_u64().unwrap() > 0, "{summary}");
}

#[test]
fn a_reservation_that_is_large_enough_stops_nobody() {
    let summary = check(&["-j", "8", "--task-mem", "170M"], &[150; 8], 600);
    assert_eq!(summary["memory_stops"], 0);
    assert!(summary["memory_waits"].as_u64().unwrap() > 0, "{summary}");
}

#[test]
fn a_command_that_needs_nearly_all_runs_alone() {
    let summary = check(&["-j", "4", "--task-mem", "40M", "-k"], &[100, 380, 100, 100], 420);
    assert!(summary["memory_stops"].as_u64().unwrap() <= 16, "{summary}");
}

#[test]
fn a_command_that_can_never_fit_fails_and_the_others_finish() {
    let program = format!("{} {{}} 0.1", hog().display());
    let arguments =
        ["--json", "--mem", "200M", "-j", "4", &program, ":::", "20", "1000", "30", "40"];
    let output = Bench::new().run(&arguments, b"");
    assert_eq!(output.status.code(), Some(1));
    let records = records(&output);
    let outcomes: Vec<_> = records
        .iter()
        .filter(|record| record["type"] == "command")
        .map(|record| (record["argument"].as_str().unwrap(), record["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(outcomes.len(), 4);
    for (argument, outcome) in outcomes {
        let expected = if argument == "1000" { "out_of_memory" } else { "succeeded" };
        assert_eq!(outcome, expected, "{argument}");
    }
    let failed = records.iter().find(|record| record["argument"] == "1000").unwrap();
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("more than the whole budget of 200 MiB"), "{reason}");
}

#[test]
fn the_memory_of_a_command_is_that_of_its_whole_tree() {
    // Two processes below the shell, and one that has left its process group.
    let hog = hog();
    let hog = hog.display();
    let program = format!("{hog} 60 0.5 & setsid {hog} 60 0.5 & {hog} {{}} 0.5; wait");
    let output = Bench::new().run(&["--json", "--mem", "1G", &program, ":::", "60"], b"");
    let record = &records(&output)[0];
    let peak = record["memory_peak_bytes"].as_u64().unwrap();
    assert!((180 * MIB..240 * MIB).contains(&peak), "{record}");
}

#[test]
fn a_process_that_has_left_the_tree_is_held_to_the_budget_too() {
    let program = format!(": {{}}; (setsid {} 2000 &) ; sleep 1000", hog().display());
    let arguments = ["--json", "--mem", "100M", &program, ":::", "x"];
    let output = Bench::new().run(&arguments, b"");
    let records = records(&output);
    assert_eq!(records[0]["outcome"], "out_of_memory", "{}", records[0]);
    let peak = records[1]["memory_peak_bytes"].as_u64().unwrap();
    // It is found up to 100 ms after it left, and grows by 1 GiB/s.
    assert!(peak < 500 * MIB, "{}", records[1]);
}
