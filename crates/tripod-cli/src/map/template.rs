//! The COMMAND of `tripod map`: a shell program with placeholders.
//!
//! An argument never becomes program text. Each placeholder is replaced by a reference to a
//! positional parameter (`${1}`, `${2}` ...), quoted as its place in the program needs, and the
//! values are passed to `sh -c` as parameters. A shell does not evaluate the result of an
//! expansion again, so whatever a file name holds (quotes, `$(...)`, newlines) stays data, even
//! where the scanner below is wrong about the context: the worst outcome is then a wrongly split
//! word.
//!
//! What the scanner cannot make safe it refuses: a placeholder inside the program text of a
//! second interpreter (`bash -c "... {}"`, `eval`, `awk`), inside backquotes, inside `$((...))`, or
//! in a here-document in which nothing is expanded.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

mod here_document;
mod program_text;
mod scan;

/// A command template, ready to be filled in with arguments.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    segments: Vec<Segment>,
    /// The program for `sh -c` where it is the same for every argument (no `{#}` in it).
    fixed_script: Option<OsString>,
    /// The placeholders whose values are passed as `$1`, `$2` ...
    parameters: Vec<Placeholder>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Text(Vec<u8>),
    Slot { placeholder: Placeholder, context: Context },
}

/// What stands for a part of the argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// `{}`: the argument.
    Argument,
    /// `{.}`: the argument without its extension.
    WithoutExtension,
    /// `{/}`: the last component of the path.
    Basename,
    /// `{//}`: the directory of the path.
    Dirname,
    /// `{#}`: the number of the command, from 1.
    Number,
}

/// How the shell reads the text around a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    Bare,
    DoubleQuoted,
    /// `"${x:-...}"`: as in double quotes, but a brace would close the expansion.
    QuotedExpansion,
    SingleQuoted,
    /// The body of a here-document: as in double quotes, but a double quote is nothing special.
    /// What is displayed differs from what runs for a value with a line that is the delimiter.
    HereDocument,
}

/// Why a template was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TemplateError {
    #[error("no COMMAND given; for example: tripod map 'gzip -9 {{}}'")]
    Empty,
    #[error(
        "{placeholder} stands inside the program text of `{interpreter}`, which would run whatever \
         the argument says; pass it as a parameter instead, for example: {}",
        remedy(.interpreter, *.placeholder)
    )]
    InsideProgramText { placeholder: Placeholder, interpreter: &'static str },
    #[error("{placeholder} stands inside backquotes; write $(...) instead of `...`")]
    InsideBackquotes { placeholder: Placeholder },
    #[error(
        "{placeholder} stands inside $((...)), where a shell may run what the argument says; \
         assign it to a variable and check it first"
    )]
    InsideArithmetic { placeholder: Placeholder },
    #[error(
        "{placeholder} stands in a here-document with a quoted delimiter, in which a shell expands \
         nothing; write <<{delimiter} without quotes, and \\$ for each $ that is to stay"
    )]
    InsideQuotedHereDocument { placeholder: Placeholder, delimiter: String },
    #[error("COMMAND contains a NUL byte, which no program can be given")]
    NulByte,
}

/// How to give `placeholder` to a program of `interpreter` as data.
fn remedy(interpreter: &str, placeholder: Placeholder) -> String {
    match interpreter {
        "trap" => format!("f={placeholder}; trap 'rm \"$f\"' EXIT"),
        "sed" | "gsed" => format!("to={placeholder} perl -pe 's/from/$ENV{{to}}/'"),
        awk if awk.ends_with("awk") => {
            format!("name={placeholder} {awk} '{{ print ENVIRON[\"name\"] }}'")
        }
        "python" | "pypy" => format!("python3 -c 'import sys; print(sys.argv[1])' {placeholder}"),
        _ => format!("sh -c 'gzip \"$1\"' sh {placeholder}"),
    }
}

/// A program for `sh -c` and its positional parameters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invocation<'a> {
    pub(crate) script: Cow<'a, OsStr>,
    pub(crate) parameters: Vec<OsString>,
}

impl Template {
    /// Parses COMMAND.
    ///
    /// One word is a shell program. Several words are a program and its arguments, each passed on
    /// just as it was given, as `xargs` does. Without a placeholder the argument is appended.
    pub(crate) fn parse(words: &[OsString]) -> Result<Self, TemplateError> {
        let segments = match words {
            [] => return Err(TemplateError::Empty),
            [program] if program.as_bytes().trim_ascii().is_empty() => {
                return Err(TemplateError::Empty);
            }
            [program] => scan::program(program.as_bytes())?,
            words => scan::words(words)?,
        };
        let parameters = parameters_of(&segments);
        let mut template = Self { segments, fixed_script: None, parameters };
        if !template.uses(Placeholder::Number) {
            template.fixed_script = Some(template.script(0));
        }
        Ok(template)
    }

    /// The program and parameters that run the template on `argument` as command `number`.
    pub(crate) fn invocation(&self, argument: &OsStr, number: u64) -> Invocation<'_> {
        let argument = guard_leading_dash(argument);
        let parameters =
            self.parameters.iter().map(|placeholder| placeholder.value(&argument)).collect();
        let script = match &self.fixed_script {
            Some(script) => script.as_os_str().into(),
            None => self.script(number).into(),
        };
        Invocation { script, parameters }
    }

    /// The command as a person would type it for `argument`: what `--dry-run` prints.
    pub(crate) fn display(&self, argument: &OsStr, number: u64) -> OsString {
        let argument = guard_leading_dash(argument);
        self.render(number, |placeholder, context, out| {
            context.write_value(placeholder.value(&argument).as_bytes(), out);
        })
    }

    fn uses(&self, wanted: Placeholder) -> bool {
        self.segments
            .iter()
            .any(|s| matches!(s, Segment::Slot { placeholder, .. } if *placeholder == wanted))
    }

    fn script(&self, number: u64) -> OsString {
        self.render(number, |placeholder, context, out| {
            let position = self.parameters.iter().position(|p| *p == placeholder);
            let position = position.expect("every placeholder of the segments has a parameter");
            context.write_reference(position + 1, out);
        })
    }

    fn render(
        &self,
        number: u64,
        mut write_slot: impl FnMut(Placeholder, Context, &mut Vec<u8>),
    ) -> OsString {
        let mut out = Vec::new();
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => out.extend_from_slice(text),
                Segment::Slot { placeholder: Placeholder::Number, .. } => {
                    out.extend_from_slice(number.to_string().as_bytes());
                }
                Segment::Slot { placeholder, context } => {
                    write_slot(*placeholder, *context, &mut out);
                }
            }
        }
        OsString::from_vec(out)
    }
}

fn parameters_of(segments: &[Segment]) -> Vec<Placeholder> {
    let mut parameters = Vec::new();
    for segment in segments {
        if let Segment::Slot { placeholder, .. } = segment
            && *placeholder != Placeholder::Number
            && !parameters.contains(placeholder)
        {
            parameters.push(*placeholder);
        }
    }
    parameters
}

impl Placeholder {
    const ALL: [(&'static str, Self); 5] = [
        ("{}", Self::Argument),
        ("{.}", Self::WithoutExtension),
        ("{/}", Self::Basename),
        ("{//}", Self::Dirname),
        ("{#}", Self::Number),
    ];

    /// The placeholder that `text` begins with, and its length in bytes.
    fn at_start_of(text: &[u8]) -> Option<(Self, usize)> {
        Self::ALL
            .iter()
            .find(|(spelling, _)| text.starts_with(spelling.as_bytes()))
            .map(|(spelling, placeholder)| (*placeholder, spelling.len()))
    }

    fn value(self, argument: &OsStr) -> OsString {
        let bytes = argument.as_bytes();
        let value = match self {
            // Not even a part of one that is too long, or of which the rest was not kept: starting
            // the command has to fail rather than work on something else.
            _ if bytes.len() >= argument_bytes_max() => bytes,
            Self::Argument | Self::Number => bytes,
            Self::WithoutExtension => without_extension(bytes),
            Self::Basename => {
                let name = basename(bytes);
                return guard_leading_dash_of(OsStr::from_bytes(name), argument).into_owned();
            }
            Self::Dirname => dirname(bytes),
        };
        OsStr::from_bytes(value).to_owned()
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spelling = Self::ALL.iter().find(|(_, placeholder)| placeholder == self);
        f.write_str(spelling.expect("ALL lists every placeholder").0)
    }
}

impl Context {
    fn write_reference(self, position: usize, out: &mut Vec<u8>) {
        let reference = match self {
            Self::Bare => format!("\"${{{position}}}\""),
            Self::DoubleQuoted | Self::QuotedExpansion | Self::HereDocument => {
                format!("${{{position}}}")
            }
            Self::SingleQuoted => format!("'\"${{{position}}}\"'"),
        };
        out.extend_from_slice(reference.as_bytes());
    }

    fn write_value(self, value: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Bare => out.extend_from_slice(&quote(value)),
            Self::DoubleQuoted | Self::QuotedExpansion | Self::HereDocument => {
                for byte in value {
                    if matches!(byte, b'\\' | b'$' | b'`')
                        || (*byte == b'"' && self != Self::HereDocument)
                        || (*byte == b'}' && self == Self::QuotedExpansion)
                    {
                        out.push(b'\\');
                    }
                    out.push(*byte);
                }
            }
            Self::SingleQuoted => write_single_quoted(value, out),
        }
    }
}

/// Quotes `value` as one word of a shell program, leaving plain words as they are.
pub(crate) fn quote(value: &[u8]) -> Vec<u8> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(b);
    if !value.is_empty() && value.iter().all(plain) {
        return value.to_vec();
    }
    let mut out = vec![b'\''];
    write_single_quoted(value, &mut out);
    out.push(b'\'');
    out
}

/// Writes `value` so that it stays inside an open pair of single quotes.
fn write_single_quoted(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            byte => out.push(*byte),
        }
    }
}

/// Keeps the name of a file from being read as an option.
///
/// `-rf` becomes `./-rf` where a file of that name exists; an argument that is no file, such as
/// the number `-5`, is left alone.
fn guard_leading_dash(argument: &OsStr) -> Cow<'_, OsStr> {
    guard_leading_dash_of(argument, argument)
}

/// Does the same for a part of `argument`, which says whether there is a file.
fn guard_leading_dash_of<'a>(part: &'a OsStr, argument: &OsStr) -> Cow<'a, OsStr> {
    if part.as_bytes().starts_with(b"-") && std::fs::symlink_metadata(argument).is_ok() {
        let mut guarded = OsString::from("./");
        guarded.push(part);
        return guarded.into();
    }
    part.into()
}

/// The length from which on the kernel passes an argument to no program: with its NUL byte it may
/// have 32 pages (`MAX_ARG_STRLEN`, execve(2)), which is 128 KiB on most machines.
pub(super) fn argument_bytes_max() -> usize {
    32 * rustix::param::page_size()
}

/// `a/b.tar.gz` -> `a/b.tar`; a leading dot is part of the name, not the start of an extension.
fn without_extension(path: &[u8]) -> &[u8] {
    let name_start = path.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    match path[name_start..].iter().rposition(|b| *b == b'.') {
        None | Some(0) => path,
        Some(dot) => &path[..name_start + dot],
    }
}

/// `a/b.txt` -> `b.txt`, `a/b/` -> `b`, `/` -> `/`, as basename(1).
fn basename(path: &[u8]) -> &[u8] {
    let path = trim_trailing_slashes(path);
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) if path.len() > 1 => &path[slash + 1..],
        _ => path,
    }
}

/// `a/b.txt` -> `a`, `b.txt` -> `.`, `/b` -> `/`, as dirname(1).
fn dirname(path: &[u8]) -> &[u8] {
    let path = trim_trailing_slashes(path);
    match path.iter().rposition(|b| *b == b'/') {
        None => b".",
        Some(slash) => match trim_trailing_slashes(&path[..slash]) {
            b"" => b"/",
            directory => directory,
        },
    }
}

fn trim_trailing_slashes(path: &[u8]) -> &[u8] {
    let kept = path.iter().rposition(|b| *b != b'/').map_or(path.len().min(1), |last| last + 1);
    &path[..kept]
}

#[cfg(test)]
mod tests;
