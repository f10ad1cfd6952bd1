//! Behaviour of templates, checked by running a real shell.

use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

fn parse(program: &str) -> Result<Template, TemplateError> {
    Template::parse(&[OsString::from(program)])
}

/// What the shell prints for `template` and `argument`, by parameters and by displayed text.
fn outputs(template: &Template, argument: &OsStr) -> [Vec<u8>; 2] {
    let invocation = template.invocation(argument, 7);
    let mut by_parameters = Command::new("/bin/sh");
    by_parameters.arg("-c").arg(&invocation.script).arg("sh").args(&invocation.parameters);
    let mut by_text = Command::new("/bin/sh");
    by_text.arg("-c").arg(template.display(argument, 7));
    [by_parameters, by_text].map(|mut command| {
        let output = command.stdin(Stdio::null()).output().expect("a shell runs");
        assert!(output.status.success(), "{command:?}: {output:?}");
        output.stdout
    })
}

fn check(program: &str, argument: &[u8], expected: &[u8]) {
    let template = parse(program).expect("a good template");
    for output in outputs(&template, OsStr::from_bytes(argument)) {
        assert_eq!(output, expected, "{program} on {}", argument.escape_ascii());
    }
}

/// Checks what runs; what is displayed differs for programs that look at their parameters.
fn check_run(program: &str, argument: &[u8], expected: &[u8]) {
    let template = parse(program).expect("a good template");
    let [output, _] = outputs(&template, OsStr::from_bytes(argument));
    assert_eq!(output, expected, "{program}");
}

const NASTY: [&[u8]; 14] = [
    b"plain",
    b"two words",
    b"  leading and trailing  ",
    b"it's",
    b"\"double\"",
    b"$(echo pwned)",
    b"`echo pwned`",
    b"$HOME ${HOME} $1",
    b"new\nline",
    b"back\\slash\\",
    b"semi;colon && echo pwned | cat > /dev/null #",
    b"* ? [a-z] ~",
    b"\xff\xfe not utf-8",
    b"-n",
];

#[test]
fn an_argument_is_data_in_every_kind_of_quotes() {
    for argument in NASTY {
        let expected = [b"<", argument, b">"].concat();
        for program in [
            "printf '<%s>' {}",
            "printf '<%s>' \"{}\"",
            "printf '<%s>' '{}'",
            "printf '<%s>' $(printf x >/dev/null){}",
            "x={}; printf '<%s>' \"$x\"",
            "printf '<%s>' \"${unset:-{}}\"",
            "(printf '<%s>' {})",
        ] {
            check(program, argument, &expected);
        }
    }
}

#[test]
fn text_around_a_placeholder_stays_in_one_word() {
    check("printf '<%s>' a{}b\"c{}d\"'e{}f'", b"x y", b"<ax ybcx ydex yf>");
}

#[test]
fn without_a_placeholder_the_argument_is_appended() {
    check("printf '<%s>' one", b"two three", b"<one><two three>");
}

#[test]
fn several_words_are_passed_on_as_they_are() {
    let words = ["printf", "<%s>", "a b", "$HOME", "{}", "x{}", ""].map(OsString::from);
    let template = Template::parse(&words).expect("good");
    for output in outputs(&template, OsStr::new("it's")) {
        assert_eq!(output, b"<a b><$HOME><it's><xit's><>");
    }
}

#[test]
fn the_parts_of_a_path_follow_basename_and_dirname() {
    for (argument, expected) in [
        ("dir/a.tar.gz", "dir/a.tar|a.tar.gz|dir"),
        ("a", "a|a|."),
        (".hidden", ".hidden|.hidden|."),
        ("d.x/name", "d.x/name|name|d.x"),
        ("/top", "/top|top|/"),
        ("dir/", "dir/|dir|."),
        ("/", "/|/|/"),
        ("//a//b//", "//a//b//|b|//a"),
        ("", "||."),
    ] {
        check("printf '%s|%s|%s' {.} {/} {//}", argument.as_bytes(), expected.as_bytes());
    }
}

#[test]
fn the_number_is_text_even_in_arithmetic() {
    check("printf %s $(( {#} * 2 )) # {}", b"x", b"14");
}

#[test]
fn shell_syntax_that_looks_like_a_placeholder_is_left_alone() {
    check_run("printf '%s %s;' ${#} \\{}", b"appended", b"1 {};appended ;");
}

#[test]
fn an_argument_in_program_text_is_refused() {
    for program in [
        "bash -c 'gzip {}'",
        "sh -c \"gzip {}\"",
        "env X=1 /bin/sh -ec 'gzip {}'",
        "eval \"gzip {}\"",
        "python3 -c 'print(\"{}\")'",
        "perl -ne 'print {}'",
        "true; bash -c \"$(cat x) {}\"",
    ] {
        let error = parse(program).expect_err(program);
        assert!(matches!(error, TemplateError::InsideProgramText { .. }), "{program}: {error}");
    }
    assert!(matches!(parse("echo `cat {}`"), Err(TemplateError::InsideBackquotes { .. })));
    assert!(matches!(parse("echo $(( {} + 1 ))"), Err(TemplateError::InsideArithmetic { .. })));
    let words = ["bash", "-c", "gzip {}"].map(OsString::from);
    assert!(matches!(Template::parse(&words), Err(TemplateError::InsideProgramText { .. })));
}

#[test]
fn an_argument_beside_program_text_is_allowed() {
    for program in [
        "bash -c 'gzip \"$1\"' bash {}",
        "sh -c {}",
        "xz -9 -c {} | wc -c",
        "bash script.sh {}",
        "echo \"$(bash -c true)\" {}",
        "gzip -c \"{}\"",
        "bash -c 'exit {#}'",
    ] {
        assert!(parse(program).is_ok(), "{program}");
    }
}

#[test]
fn an_empty_command_is_refused() {
    for program in ["", "  \t\n"] {
        assert_eq!(parse(program).expect_err("empty"), TemplateError::Empty);
    }
    assert_eq!(Template::parse(&[]).expect_err("none"), TemplateError::Empty);
    assert_eq!(parse("a\0b").expect_err("NUL"), TemplateError::NulByte);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_arrive_unchanged(argument in prop::collection::vec(1_u8..=255, 0..60)) {
        let template = parse("printf '<%s>' {}\"{}\"'{}'").expect("good");
        let expected = [b"<", &argument[..], &argument, &argument, b">"].concat();
        for output in outputs(&template, OsStr::from_bytes(&argument)) {
            prop_assert_eq!(&output, &expected);
        }
    }

    #[test]
    fn any_program_is_parsed_or_refused(program in "[ {}#/.$()'\"\\\\`a-c;|<>\\n-]{0,40}") {
        let _ = parse(&program);
    }
}
