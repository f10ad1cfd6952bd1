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

/// Refused as one word and, where no shell syntax is needed, as several words.
#[test]
fn program_text_is_found_by_the_grammar_of_each_interpreter() {
    let refused = [
        (&["sh", "-ce", "echo {}"][..], "sh"),
        (&["sh", "-c", "--", "echo {}"], "sh"),
        (&["sh", "-c", "-", "echo {}"], "sh"),
        (&["bash", "-c", "-x", "echo {}"], "bash"),
        (&["bash", "-ceo", "pipefail", "echo {}"], "bash"),
        (&["bash", "-O", "extglob", "+x", "-c", "echo {}"], "bash"),
        (&["bash", "--norc", "-c", "echo {}"], "bash"),
        (&["$SHELL", "-c", "echo {}"], "$SHELL"),
        (&["zsh", "-c", "echo {.}"], "zsh"),
        (&["fish", "--command=echo {}"], "fish"),
        (&["su", "-", "nobody", "-c", "echo {}"], "su"),
        (&["trap", "echo {}", "EXIT"], "trap"),
        (&["trap", "--", "echo {}", "EXIT"], "trap"),
        (&["eval", "--", "echo {}"], "eval"),
        (&["eval", "echo", "{}"], "eval"),
        (&["eval", "echo"], "eval"),
        (&["awk", "{ \"{}\" | getline }"], "awk"),
        (&["gawk", "-v", "x=1", "-F", ",", "{ print \"{}\" }"], "gawk"),
        (&["mawk", "-F,", "-vx=1", "--", "{ print \"{}\" }"], "mawk"),
        (&["nawk", "--assign", "x=1", "{ print \"{}\" }"], "nawk"),
        (&["gawk", "-f", "lib.awk", "-e", "{ print \"{}\" }"], "gawk"),
        (&["gawk", "--source={ print \"{}\" }"], "gawk"),
        (&["sed", "s/a/{}/"], "sed"),
        (&["sed", "-i", "s/a/{}/", "file"], "sed"),
        (&["sed", "-n", "-e", "p", "-e", "s/a/{}/"], "sed"),
        (&["sed", "-es/a/{}/"], "sed"),
        (&["sed", "p", "file", "--expression=s/a/{}/"], "sed"),
        (&["sed", "--expr", "s/a/{}/"], "sed"),
        (&["sed", "-l", "5", "s/a/{}/"], "sed"),
        (&["perl", "-E", "say {}1"], "perl"),
        (&["perl", "-esay \"{}\""], "perl"),
        (&["perl", "-i.orig", "-pe", "s/a/{}/", "file"], "perl"),
        (&["perl5.36", "-lne", "print \"{}\""], "perl"),
        (&["ruby", "-r", "json", "-e", "puts \"{}\""], "ruby"),
        (&["node", "-p", "\"{}\""], "node"),
        (&["node", "--print", "\"{}\""], "node"),
        (&["node", "-pe", "\"{}\""], "node"),
        (&["node", "-e", "f(\"{}\")"], "node"),
        (&["node", "--eval=f(\"{}\")"], "node"),
        (&["php", "-d", "x=1", "-r", "echo \"{}\";"], "php"),
        (&["python3.12", "-Bc", "print(\"{}\")"], "python"),
        (&["python3", "-W", "error", "-cprint(\"{}\")"], "python"),
        (&["lua5.4", "-l", "m", "-e", "print(\"{}\")"], "lua"),
        (&["sudo", "-u", "nobody", "sh", "-c", "echo {}"], "sh"),
        (&["docker", "run", "--name", "bash", "alpine", "sh", "-c", "echo {}"], "sh"),
    ];
    for (words, expected) in refused {
        for template in [Template::parse(&owned(words)), parse(&joined(words))] {
            match template {
                Err(TemplateError::InsideProgramText { interpreter, .. }) => {
                    assert_eq!(interpreter, expected, "{words:?}");
                }
                other => panic!("{words:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn what_only_looks_like_program_text_is_accepted() {
    for words in [
        &["xz", "-9", "-c", "{}"][..],
        &["gzip", "-c", "x{}"],
        &["sort", "-c", "x{}"],
        &["sh", "-c", "{}"],
        &["sh", "-ce", "f \"$1\"", "sh", "x{}"],
        &["sh", "-c", "", "x{}"],
        &["bash", "-ceo", "pipefail", "f \"$1\"", "bash", "x{}"],
        &["bash", "script.sh", "{}"],
        &["bash", "script.sh", "x{}"],
        &["bash", "script.sh", "-c", "x{}"],
        &["bash", "-e", "script.sh", "x{}"],
        &["bash", "-c", "exit {#}"],
        &["trap", "{}", "EXIT"],
        &["eval", "{}"],
        &["awk", "{print $1}", "{}"],
        &["awk", "{print $1}", "x{}"],
        &["awk", "-v", "name=x{}", "{print name}", "file"],
        &["awk", "-f", "lib.awk", "x{}"],
        &["sed", "-n", "1p", "{}"],
        &["sed", "-n", "1p", "x{}"],
        &["sed", "-i", "s/a/b/", "{}.txt"],
        &["sed", "-i.bak", "-e", "s/a/b/", "{}.txt"],
        &["sed", "-f", "edit.sed", "{}.txt"],
        &["perl", "-i.orig", "-pe", "s/a/b/", "{}.txt"],
        &["perl", "tool.pl", "-e", "x{}"],
        &["python3", "-m", "tool", "x{}"],
        &["python3", "-m", "tool", "-c", "x{}"],
        &["python3.12", "-c", "import sys", "x{}"],
        &["node", "tool.js", "-p", "x{}"],
        &["php", "tool.php", "x{}"],
        &["grep", "-w", "sed", "x{}"],
        &["cp", "x{}", "/usr/share/awk", "y{}"],
    ] {
        for template in [Template::parse(&owned(words)), parse(&joined(words))] {
            assert!(template.is_ok(), "{words:?}: {template:?}");
        }
    }
    for program in ["gzip -c \"{}\"", "if grep sed \"x{}\"; then :; fi", "sh -c true > \"{}.out\""]
    {
        assert!(parse(program).is_ok(), "{program}");
    }
}

#[test]
fn redirections_and_line_ends_do_not_hide_program_text() {
    for program in [
        "bash 2>&1 -c 'echo {}'",
        "bash -c 2>/dev/null 'echo {}'",
        "bash -c >& log 'echo {}'",
        "bash -c &> log 'echo {}'",
        "sh -c \\\n 'echo {}'",
        "\\eval 'echo {}'",
        "case x in x)sh -c 'echo {}' ;; esac",
        "X=1 sh -c 'echo {}'",
    ] {
        let error = parse(program).expect_err(program);
        assert!(matches!(error, TemplateError::InsideProgramText { .. }), "{program}: {error}");
    }
}

fn owned(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// The words as one program, each in single quotes where it needs some.
fn joined(words: &[&str]) -> String {
    let quote_word = |word: &&str| match *word {
        "$SHELL" | "{}" | "{#}" => (*word).to_owned(),
        word if word.contains(' ') || word.contains('"') || word.is_empty() => format!("'{word}'"),
        word => word.to_owned(),
    };
    words.iter().map(quote_word).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_here_document_holds_the_argument_as_it_is() {
    check("cat <<EOF\nname: {}\nEOF", b"a b", b"name: a b\n");
    for argument in NASTY.into_iter().filter(|argument| !argument.contains(&b'\n')) {
        let name = [b"it's <", argument, b">\n"].concat();
        for program in [
            "cat <<EOF\nit's <{}>\nEOF",
            "cat << EOF\nit's <{}>\nEOF\n",
            "cat <<-EOF\n\tit's <{}>\n\tEOF\n",
            "cat <<A - <<B\nlost {}\nA\nit's <{}>\nB\n",
            "cat <<A; cat <<B\nit's <{}>\nA\nB\n",
            "(cat <<EOF)\nit's <{}>\nEOF",
            "x=\"$(cat <<EOF\nit's <{}>\nEOF\n)\"; printf '%s\\n' \"$x\"",
            "cat <<EOF\nit's <${unset:-{}}>\nEOF",
            "cat <<EOF\nit's <$(printf %s {})>\nEOF",
            "cat <<EOF | cat\nit's <{}>\nEOF",
        ] {
            // A shell takes the quotes of `\"` in the word of an expansion differently by brand.
            if program.contains("unset") {
                check_run(program, argument, &name);
            } else {
                check(program, argument, &name);
            }
        }
    }
}

#[test]
fn after_a_here_document_quotes_count_again() {
    let program = "cat <<EOF && printf '<%s>' {}\nit's \"\nEOF\nprintf '<%s>' \"{}\" x{}";
    check(program, b"a  b", b"it's \"\n<a  b><a  b><xa  b>");
    check_run("cat <<EOF\n$(( 1 << 2 ))\\\nEOF\nEOF\nprintf %s {}", b"a  b", b"4EOF\na  b");
    check_run("cat <<{}\nx{}\n{}\nprintf %s {}", b"a  b", b"xa  b\na  b");
}

#[test]
fn a_here_string_is_no_here_document() {
    let template = parse("cat <<< x{}\nprintf '<%s>' {}").expect("good");
    let script = template.invocation(OsStr::new("a"), 1).script.into_owned();
    assert_eq!(script, "cat <<< x\"${1}\"\nprintf '<%s>' \"${1}\"");
}

#[test]
fn where_nothing_is_expanded_an_argument_is_refused() {
    for program in [
        "cat <<'EOF'\nname: {}\nEOF",
        "cat <<\"EOF\"\nname: {}\nEOF",
        "cat <<\\EOF\n{}\nEOF",
        "cat <<-E'O'F\n\tname: {}\n\tEOF",
    ] {
        let error = parse(program).expect_err(program);
        assert!(error.to_string().contains("write <<EOF without quotes"), "{error}");
    }
    check("cat <<'EOF'\n$x {#}\nEOF\nprintf %s {}", b"a", b"$x 7\na");
}

#[test]
fn the_standard_input_of_an_interpreter_is_program_text() {
    for program in [
        "sh <<EOF\necho {}\nEOF",
        "sh -s x <<EOF\necho {}\nEOF",
        "sh <<'EOF'\necho {}\nEOF",
        "bash <<< 'echo {}'",
        "<<< 'echo {}' bash -x",
        "python3 - <<EOF\nprint('{}')\nEOF",
        "sudo -u nobody perl <<EOF\nprint '{}'\nEOF",
        "awk -f - file <<EOF\n{ print \"{}\" }\nEOF",
    ] {
        let error = parse(program).expect_err(program);
        assert!(matches!(error, TemplateError::InsideProgramText { .. }), "{program}: {error}");
    }
    for program in [
        "sh -c 'cat' <<EOF\nx {}\nEOF",
        "sh -c 'cat' sh <<EOF\nx {}\nEOF",
        "sh script.sh <<EOF\nx {}\nEOF",
        "perl -pe 's/a/b/' <<EOF\nx {}\nEOF",
        "awk '{ print }' - <<EOF\nx {}\nEOF",
        "sed p <<< 'x {}'",
        "sh <<< {}",
    ] {
        assert!(parse(program).is_ok(), "{program}");
    }
}

#[test]
fn a_remedy_is_a_command_that_is_accepted() {
    for interpreter in ["sh", "eval", "trap", "sed", "gawk", "python", "perl"] {
        let remedy = remedy(interpreter, Placeholder::Argument);
        assert!(parse(&remedy).is_ok(), "{remedy}");
    }
}

#[test]
fn a_file_name_with_a_dash_is_no_option_by_its_basename_either() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("-rf");
    std::fs::write(&file, "").expect("a file");
    let program = "printf '%s|%s' {/} \"out/{/}\"";
    check(program, file.as_os_str().as_bytes(), b"./-rf|out/./-rf");
    check(program, b"nowhere/-rf", b"-rf|out/-rf");
}

#[test]
fn no_part_of_an_argument_that_is_too_long_is_passed() {
    let argument = format!("{}/name.txt", "d".repeat(argument_bytes_max()));
    for program in ["cat {}", "cat {/}", "cat {//}", "cat {.}"] {
        let template = parse(program).expect("good");
        assert_eq!(template.invocation(OsStr::new(&argument), 1).parameters, [&*argument]);
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
    fn any_program_is_parsed_or_refused(program in "[ {}#/.$()'\"\\\\`a-c;|<>&\\n-]{0,40}") {
        let _ = parse(&program);
    }
}
