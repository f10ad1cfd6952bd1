use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::*;

fn row(name: &str, wall: f64, cpu: f64) -> Row {
    Row { name: name.to_owned(), wall: Series::new([wall]), cpu: Series::new([cpu]) }
}

fn wrote(text: &str) -> Run {
    let measurement = Measurement { wall: Duration::ZERO, cpu: Duration::ZERO };
    let status = ExitStatus::from_raw(0);
    Run { status, measurement, stdout: text.to_owned(), stderr: String::new() }
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn a_quick_run_is_smaller_and_given_rounds_hold_for_both_workloads() {
    let args = |rounds, quick| MapArgs { rounds: NonZeroU32::new(rounds), quick, tripod: None };
    let amount = Amount::of(&args(0, false));
    let expected = Amount { trues: 2_000, true_rounds: 7, files: 200, file_rounds: 3 };
    assert_eq!(amount, expected);
    let quick = Amount::of(&args(0, true));
    assert!(quick.trues < amount.trues && quick.files < amount.files);
    let given = Amount::of(&args(5, true));
    assert_eq!((given.true_rounds, given.file_rounds), (5, 5));
}

#[test]
fn overhead_is_held_against_plain_xargs_and_parallel_in_wall_and_cpu_time() {
    let rows = [
        row(tools::XARGS, 1.0, 2.0),
        row(tools::XARGS_SHELL, 100.0, 100.0),
        row(tools::PARALLEL, 6.0, 12.0),
        row(tools::TRIPOD, 1.5, 6.0),
    ];
    let bars = overhead_bars(&rows);
    let figures: Vec<(f64, bool)> = bars.iter().map(|bar| (bar.figure(), bar.is_met())).collect();
    assert_eq!(figures, [(1.5, true), (3.0, false), (0.25, true), (0.5, false)]);
    assert!(bars[1].what().starts_with("CPU") && bars[1].what().ends_with("xargs"));
}

#[test]
fn real_work_may_be_slower_than_xargs_by_a_twentieth() {
    let bars = |wall| {
        work_bars(&[row(tools::XARGS, 100.0, 1.0), row(tools::TRIPOD, wall, 900.0)])[0].is_met()
    };
    assert!(bars(105.0));
    assert!(!bars(105.1));
}

#[test]
fn a_tool_that_did_less_or_other_work_is_found() {
    let tools = Tools::of_names();
    let [contender, ..] = tools.each_argument("echo");
    let expected = lines(&["1", "2", "10"]);
    check_lines(&contender, &wrote("10\n2\n1\n"), &expected).expect("the order is free");
    for bad in ["", "1\n2\n", "1\n2\n10\n10\n", "1\n2\n11\n", "1\n1\n2\n"] {
        let error = check_lines(&contender, &wrote(bad), &expected).expect_err(bad);
        assert!(error.to_string().starts_with("`xargs -P"), "{error}");
    }
}

#[test]
fn every_file_has_a_size_and_none_is_zero() {
    let tools = Tools::of_names();
    let [contender, ..] = tools.compress();
    let sizes = |text| sizes(&contender, &wrote(text), 2);
    assert_eq!(sizes("300\n20\n").expect("two sizes"), ["20", "300"]);
    for bad in ["300\n", "300\n0\n", "300\n20\n1\n", "300\nxz: error\n", "300\n20\nnoise\n"] {
        assert!(sizes(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn all_tools_are_told_to_read_the_same_list() {
    let file = list(&lines(&["a b", "c"])).expect("room for two lines");
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "a b\nc\n");
}
