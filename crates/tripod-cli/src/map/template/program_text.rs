//! Tells which words of a simple command are program text for a second interpreter.
//!
//! Follows the option grammars of the usual interpreters, since the program text of `bash -ceo
//! pipefail TEXT` is not the word after the `c`. In doubt a word counts as program text: a command
//! that is refused can be written differently, one that runs what a file is called cannot be undone.
//! It knows nothing of quotes; the words arrive without them.

use super::here_document::HereDocument;
use super::{Placeholder, TemplateError};

/// How an interpreter is told what to run. Short options are single letters.
#[derive(Debug)]
struct Grammar {
    /// Options whose value is program text.
    text: &'static str,
    long_text: &'static [&'static str],
    /// The value is the first operand, not the word after the option, as in `bash -c -x TEXT`.
    text_is_operand: bool,
    /// All that follows the text is data.
    text_is_last: bool,
    /// Options whose value is a file with the program: then no operand is program text.
    file: &'static str,
    long_file: &'static [&'static str],
    /// Options whose value is the last thing the interpreter reads: `python3 -m tool`.
    last: &'static str,
    /// Options with any other value, attached or in the next word.
    valued: &'static str,
    long_valued: &'static [&'static str],
    /// Options that take what is attached to them, and never the next word.
    attached: &'static str,
    operands: Operands,
    /// Whether options may follow operands.
    permuted: bool,
    /// Whether it runs its standard input when given nothing else.
    runs_stdin: bool,
}

/// What the words are that are no options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operands {
    Data,
    /// The first one is program text, unless an option has given some.
    TextFirst,
    /// They are joined to one program text.
    Text,
}

const PLAIN: Grammar = Grammar {
    text: "",
    long_text: &[],
    text_is_operand: false,
    text_is_last: false,
    file: "",
    long_file: &[],
    last: "",
    valued: "",
    long_valued: &[],
    attached: "",
    operands: Operands::Data,
    permuted: false,
    runs_stdin: false,
};
const SHELL: Grammar = Grammar {
    text: "c",
    long_text: &["command"],
    text_is_operand: true,
    valued: "oO",
    long_valued: &["rcfile", "init-file", "emulate"],
    runs_stdin: true,
    ..PLAIN
};
const FISH: Grammar = Grammar {
    text: "cC",
    long_text: &["command", "init-command"],
    valued: "dDfo",
    long_valued: &["debug", "debug-output", "features"],
    runs_stdin: true,
    ..PLAIN
};
const SU: Grammar = Grammar {
    text: "c",
    long_text: &["command", "session-command"],
    valued: "gGsuw",
    long_valued: &["group", "supp-group", "shell", "user", "whitelist-environment"],
    permuted: true,
    runs_stdin: true,
    ..PLAIN
};
const PYTHON: Grammar =
    Grammar { text: "c", text_is_last: true, last: "m", valued: "QWX", runs_stdin: true, ..PLAIN };
/// `-M`, `-m` and `-F` are written into the program by perl.
const PERL: Grammar =
    Grammar { text: "eEFMm", valued: "I", attached: "CDVix:", runs_stdin: true, ..PLAIN };
const RUBY: Grammar =
    Grammar { text: "e", valued: "CEIr", attached: "FKTWix", runs_stdin: true, ..PLAIN };
const LUA: Grammar = Grammar { text: "e", valued: "l", attached: "Obj", runs_stdin: true, ..PLAIN };
const NODE: Grammar = Grammar {
    text: "ep",
    long_text: &["eval", "print"],
    text_is_operand: true,
    valued: "Cr",
    long_valued: &["conditions", "require", "import", "loader"],
    runs_stdin: true,
    ..PLAIN
};
const PHP: Grammar = Grammar {
    text: "BERr",
    long_text: &["run", "process-begin", "process-code", "process-end"],
    valued: "FSTcdftz",
    long_valued: &["define", "php-ini", "file", "process-file"],
    runs_stdin: true,
    ..PLAIN
};
const AWK: Grammar = Grammar {
    text: "e",
    long_text: &["source"],
    file: "f",
    long_file: &["file"],
    last: "E",
    valued: "FWilv",
    long_valued: &["assign", "field-separator", "include", "load"],
    attached: "DLdop",
    operands: Operands::TextFirst,
    ..PLAIN
};
/// GNU sed has a command `e` and a flag `e`, which run what they are given.
const SED: Grammar = Grammar {
    text: "e",
    long_text: &["expression"],
    file: "f",
    long_file: &["file"],
    valued: "l",
    long_valued: &["line-length"],
    attached: "i",
    operands: Operands::TextFirst,
    permuted: true,
    ..PLAIN
};
const TRAP: Grammar = Grammar { operands: Operands::TextFirst, ..PLAIN };
const EVAL: Grammar = Grammar { operands: Operands::Text, ..PLAIN };

/// Interpreters by name, without a version at its end.
const INTERPRETERS: [(&str, &Grammar); 36] = [
    ("$SHELL", &SHELL),
    ("${SHELL}", &SHELL),
    ("ash", &SHELL),
    ("awk", &AWK),
    ("bash", &SHELL),
    ("bun", &NODE),
    ("csh", &SHELL),
    ("dash", &SHELL),
    ("eval", &EVAL),
    ("fish", &FISH),
    ("gawk", &AWK),
    ("gsed", &SED),
    ("jruby", &RUBY),
    ("ksh", &SHELL),
    ("lua", &LUA),
    ("luajit", &LUA),
    ("mawk", &AWK),
    ("mksh", &SHELL),
    ("nawk", &AWK),
    ("node", &NODE),
    ("nodejs", &NODE),
    ("original-awk", &AWK),
    ("perl", &PERL),
    ("php", &PHP),
    ("pypy", &PYTHON),
    ("python", &PYTHON),
    ("rbash", &SHELL),
    ("ruby", &RUBY),
    ("runuser", &SU),
    ("sed", &SED),
    ("sh", &SHELL),
    ("su", &SU),
    ("tcsh", &SHELL),
    ("trap", &TRAP),
    ("yash", &SHELL),
    ("zsh", &SHELL),
];

/// Commands that run none of their arguments: `grep -w sed "{}.txt"`.
const RUN_NOTHING: [&str; 16] = [
    "[", "ag", "cat", "cp", "echo", "egrep", "fgrep", "for", "grep", "ls", "mv", "printf", "rg",
    "rm", "tee", "test",
];

/// Words before the name of a command.
const RESERVED: [&str; 10] =
    ["!", "{", "if", "then", "elif", "else", "while", "until", "do", "time"];

fn interpreter(word: &str) -> Option<Reading> {
    let name = word.rsplit('/').next().unwrap_or_default();
    let unversioned = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let found = INTERPRETERS.iter().find(|(known, _)| *known == unversioned);
    found.map(|(name, grammar)| Reading::new(name, grammar))
}

/// A word as it is read.
#[derive(Debug, Default)]
pub(super) struct Word {
    /// Its text without quotes, with placeholders as they are spelled.
    pub(super) text: Vec<u8>,
    pub(super) slots: Vec<Placeholder>,
    /// Whether there is a word at all: `''` is one.
    pub(super) started: bool,
}

impl Word {
    pub(super) fn push_slot(&mut self, placeholder: Placeholder) {
        self.text.extend_from_slice(placeholder.to_string().as_bytes());
        self.slots.push(placeholder);
        self.started = true;
    }

    /// The first placeholder that brings text of others into the word. A number does not.
    pub(super) fn slot(&self) -> Option<Placeholder> {
        self.slots.iter().copied().find(|placeholder| *placeholder != Placeholder::Number)
    }

    /// The same, unless the word is that placeholder and nothing else: who writes `sh -c {}`
    /// wants the argument to be run.
    pub(super) fn slot_within_text(&self) -> Option<Placeholder> {
        let slot = self.slot()?;
        (self.text.trim_ascii() != slot.to_string().as_bytes()).then_some(slot)
    }
}

/// What the word after a redirection operator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    File,
    /// `<<<`: the text of the standard input.
    HereString,
}

/// The words of the simple command being read.
#[derive(Debug, Default)]
pub(super) struct CommandWords {
    /// What the next word is, where it is not one of the command's.
    target: Option<Target>,
    /// Whether the name of the command has been read.
    named: bool,
    runs_nothing: bool,
    /// The next word is the `$0` of program text, which names nothing that is run.
    dollar_zero_next: bool,
    reading: Option<Reading>,
    /// The interpreter that was told to run its standard input.
    stdin_runner: Option<&'static str>,
    /// A placeholder in the text of a here-string.
    stdin_slot: Option<Placeholder>,
    here_documents: Vec<HereDocument>,
}

impl CommandWords {
    /// Takes a finished word.
    ///
    /// # Errors
    /// [`TemplateError::InsideProgramText`] if a placeholder is part of program text.
    pub(super) fn push(&mut self, word: &Word) -> Result<(), TemplateError> {
        match self.target.take() {
            Some(Target::File) => return Ok(()),
            Some(Target::HereString) => {
                self.stdin_slot = word.slot_within_text();
                return Ok(());
            }
            None => {}
        }
        let text = String::from_utf8_lossy(&word.text);
        let Some(reading) = &mut self.reading else {
            self.look_for_interpreter(&text);
            return Ok(());
        };
        let name = reading.name;
        let role = reading.role_of(&text);
        let refused = match role {
            Role::Text => word.slot_within_text(),
            Role::MoreText => word.slot(),
            Role::Plain | Role::Operand => None,
        };
        if let Some(placeholder) = refused {
            return Err(TemplateError::InsideProgramText { placeholder, interpreter: name });
        }
        if reading.runs_stdin {
            self.stdin_runner = Some(name);
        }
        let over = reading.over;
        self.dollar_zero_next = over && role == Role::Text && reading.grammar.text_is_operand;
        if over {
            self.reading = None;
        }
        if role == Role::Operand {
            // `docker run --name bash alpine sh -c TEXT`: what looked like one may have been data.
            self.look_for_interpreter(&text);
        }
        Ok(())
    }

    /// Looks at every word, not only the first: `env FOO=1 bash -c`, `sudo sh -c`.
    fn look_for_interpreter(&mut self, text: &str) {
        if std::mem::take(&mut self.dollar_zero_next) {
            return;
        }
        if !self.named {
            if RESERVED.contains(&text) || is_assignment(text) {
                return;
            }
            self.named = true;
            self.runs_nothing = RUN_NOTHING.contains(&text.rsplit('/').next().unwrap_or_default());
        }
        if !self.runs_nothing
            && let Some(reading) = interpreter(text)
        {
            self.reading = Some(reading);
        }
    }

    /// Says what the next word is.
    pub(super) fn redirect(&mut self, target: Target) {
        self.target = Some(target);
    }

    pub(super) fn push_here_document(&mut self, document: HereDocument) {
        self.here_documents.push(document);
    }

    /// Ends the command; gives its here-documents, which know now who reads them.
    ///
    /// # Errors
    /// [`TemplateError::InsideProgramText`] for `bash <<< "text {}"`.
    pub(super) fn finish(self) -> Result<Vec<HereDocument>, TemplateError> {
        let waiting = self.reading.as_ref().filter(|r| r.grammar.runs_stdin && !r.has_text);
        let Some(interpreter) = self.stdin_runner.or(waiting.map(|reading| reading.name)) else {
            return Ok(self.here_documents);
        };
        if let Some(placeholder) = self.stdin_slot {
            return Err(TemplateError::InsideProgramText { placeholder, interpreter });
        }
        let mut documents = self.here_documents;
        for document in &mut documents {
            document.interpreter = Some(interpreter);
        }
        Ok(documents)
    }
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What a word is to an interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// An option or its value.
    Plain,
    Operand,
    Text,
    /// A further part of text, where even a lone placeholder has text around it.
    MoreText,
}

/// The arguments of an interpreter, up to where its program is known.
#[derive(Debug)]
struct Reading {
    name: &'static str,
    grammar: &'static Grammar,
    options_over: bool,
    /// What the next word is, where an option says so.
    next: Option<Next>,
    /// Words that belong to options read before: two after `bash -oO`.
    values_due: usize,
    /// An option has said that the first operand is program text.
    text_announced: bool,
    /// There is program text, or a file with it.
    has_text: bool,
    runs_stdin: bool,
    /// What follows is of no concern to this interpreter.
    over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Text,
    File,
    Last,
}

impl Reading {
    fn new(name: &'static str, grammar: &'static Grammar) -> Self {
        Self {
            name,
            grammar,
            options_over: false,
            next: None,
            values_due: 0,
            text_announced: false,
            has_text: false,
            runs_stdin: false,
            over: false,
        }
    }

    fn role_of(&mut self, word: &str) -> Role {
        match self.next.take() {
            Some(Next::Text) => return self.text(),
            Some(Next::File) => return self.file(word),
            Some(Next::Last) => return self.last(),
            None => {}
        }
        if self.values_due > 0 {
            self.values_due -= 1;
            return Role::Plain;
        }
        if !self.options_over {
            match word {
                "--" => {
                    self.options_over = true;
                    return Role::Plain;
                }
                "-" if self.grammar.text_is_operand => {
                    self.options_over = true;
                    return Role::Plain;
                }
                _ => {}
            }
            if let Some(long) = word.strip_prefix("--") {
                return self.long_option(long);
            }
            let sign = if self.grammar.text_is_operand { &['-', '+'][..] } else { &['-'] };
            if let Some(letters) = word.strip_prefix(sign)
                && !letters.is_empty()
            {
                return self.short_options(letters);
            }
        }
        self.operand(word)
    }

    fn operand(&mut self, word: &str) -> Role {
        let text_first = self.grammar.operands == Operands::TextFirst && !self.has_text;
        if self.grammar.operands == Operands::Text {
            return if std::mem::replace(&mut self.has_text, true) {
                Role::MoreText
            } else {
                Role::Text
            };
        }
        self.over = !self.grammar.permuted;
        if self.text_announced || text_first {
            self.has_text = true;
            return Role::Text;
        }
        self.runs_stdin |= self.grammar.runs_stdin && is_stdin(word);
        Role::Operand
    }

    fn long_option(&mut self, option: &str) -> Role {
        let (name, value) = option.split_once('=').map_or((option, None), |(n, v)| (n, Some(v)));
        // GNU programs take any beginning of a long option.
        let among = |known: &[&str]| !name.is_empty() && known.iter().any(|k| k.starts_with(name));
        if among(self.grammar.long_text) {
            match value {
                Some(_) => return self.text(),
                None if self.grammar.text_is_operand => self.text_announced = true,
                None => self.next = Some(Next::Text),
            }
        } else if among(self.grammar.long_file) {
            match value {
                Some(value) => return self.file(value),
                None => self.next = Some(Next::File),
            }
        } else if among(self.grammar.long_valued) && value.is_none() {
            self.values_due += 1;
        }
        Role::Plain
    }

    fn short_options(&mut self, letters: &str) -> Role {
        if self.grammar.text_is_operand {
            return self.flags(letters);
        }
        for (index, letter) in letters.char_indices() {
            let rest = &letters[index + letter.len_utf8()..];
            let next = if self.grammar.text.contains(letter) {
                Next::Text
            } else if self.grammar.file.contains(letter) {
                Next::File
            } else if self.grammar.last.contains(letter) {
                Next::Last
            } else if self.grammar.valued.contains(letter) {
                self.values_due += usize::from(rest.is_empty());
                return Role::Plain;
            } else if self.grammar.attached.contains(letter) {
                return Role::Plain;
            } else {
                continue;
            };
            if rest.is_empty() {
                self.next = Some(next);
                return Role::Plain;
            }
            return match next {
                Next::Text => self.text(),
                Next::File => self.file(rest),
                Next::Last => self.last(),
            };
        }
        Role::Plain
    }

    /// Options of a shell, none of which has its value attached.
    fn flags(&mut self, letters: &str) -> Role {
        let count = |of: &str| letters.chars().filter(|letter| of.contains(*letter)).count();
        self.values_due += count(self.grammar.valued);
        // The letter of every shell for "the program is on standard input".
        self.runs_stdin |= count("s") > 0 && count(self.grammar.text) == 0;
        if count(self.grammar.text) > 0 {
            self.text_announced = true;
            return Role::Text;
        }
        Role::Plain
    }

    fn text(&mut self) -> Role {
        self.has_text = true;
        self.over = self.grammar.text_is_last;
        Role::Text
    }

    fn file(&mut self, name: &str) -> Role {
        self.has_text = true;
        self.runs_stdin |= is_stdin(name);
        Role::Plain
    }

    fn last(&mut self) -> Role {
        self.over = true;
        Role::Plain
    }
}

fn is_stdin(name: &str) -> bool {
    matches!(name, "-" | "/dev/stdin" | "/dev/fd/0" | "/proc/self/fd/0")
}
