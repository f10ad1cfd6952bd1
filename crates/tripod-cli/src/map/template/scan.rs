//! Finds the placeholders of a shell program and the quoting each stands in.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::{Context, Placeholder, Segment, TemplateError, quote};

/// Interpreters, and the last letter of the option whose value is program text.
const INTERPRETERS: [(&str, char); 17] = [
    ("ash", 'c'),
    ("bash", 'c'),
    ("csh", 'c'),
    ("dash", 'c'),
    ("fish", 'c'),
    ("ksh", 'c'),
    ("lua", 'e'),
    ("mksh", 'c'),
    ("node", 'e'),
    ("perl", 'e'),
    ("php", 'r'),
    ("python", 'c'),
    ("python3", 'c'),
    ("ruby", 'e'),
    ("sh", 'c'),
    ("su", 'c'),
    ("zsh", 'c'),
];

/// Scans a shell program.
pub(super) fn program(source: &[u8]) -> Result<Vec<Segment>, TemplateError> {
    if source.contains(&0) {
        return Err(TemplateError::NulByte);
    }
    Scanner::new(source).run()
}

/// Makes a program of words that are to be passed on just as they are.
pub(super) fn words(words: &[OsString]) -> Result<Vec<Segment>, TemplateError> {
    let mut segments = Vec::new();
    let mut command = CommandWords::default();
    for (index, word) in words.iter().enumerate() {
        let word = word.as_bytes();
        if word.contains(&0) {
            return Err(TemplateError::NulByte);
        }
        if index > 0 {
            segments.push(Segment::Text(b" ".to_vec()));
        }
        scan_literal_word(word, &command, &mut segments)?;
        command.push(word);
    }
    Ok(segments)
}

fn scan_literal_word(
    word: &[u8],
    command: &CommandWords,
    segments: &mut Vec<Segment>,
) -> Result<(), TemplateError> {
    let (mut position, mut text_start) = (0, 0);
    while position < word.len() {
        let Some((placeholder, len)) = Placeholder::at_start_of(&word[position..]) else {
            position += 1;
            continue;
        };
        if len != word.len() {
            command.refuse_program_text(placeholder)?;
        }
        push_quoted(&word[text_start..position], segments);
        segments.push(Segment::Slot { placeholder, context: Context::Bare });
        position += len;
        text_start = position;
    }
    if text_start < word.len() || word.is_empty() {
        segments.push(Segment::Text(quote(&word[text_start..])));
    }
    Ok(())
}

fn push_quoted(text: &[u8], segments: &mut Vec<Segment>) {
    if !text.is_empty() {
        segments.push(Segment::Text(quote(text)));
    }
}

/// The words of the simple command being read, to tell program text from data.
#[derive(Debug, Default)]
struct CommandWords {
    /// `bash`, `eval` ... where the command is one that takes program text.
    interpreter: Option<&'static str>,
    /// The option letter that makes the next word program text; `eval` needs none.
    option: Option<char>,
    /// Whether the next word is program text.
    program_text_next: bool,
}

impl CommandWords {
    /// Takes a finished word of the command.
    fn push(&mut self, word: &[u8]) {
        let text = String::from_utf8_lossy(word);
        let name = text.rsplit('/').next().unwrap_or_default();
        if let Some(letter) = self.option {
            self.program_text_next = takes_program_text(&text, letter);
        } else if self.interpreter.is_none() {
            // Looked for in every word, not only the first: `env FOO=1 bash -c`, `sudo sh -c`.
            if name == "eval" {
                (self.interpreter, self.program_text_next) = (Some("eval"), true);
            } else if let Some((name, letter)) = INTERPRETERS.iter().find(|(n, _)| *n == name) {
                (self.interpreter, self.option) = (Some(*name), Some(*letter));
            }
        }
    }

    /// Refuses a placeholder that is part of, but not all of, a word of program text.
    fn refuse_program_text(&self, placeholder: Placeholder) -> Result<(), TemplateError> {
        match self.interpreter {
            Some(interpreter) if self.program_text_next && placeholder != Placeholder::Number => {
                Err(TemplateError::InsideProgramText { placeholder, interpreter })
            }
            _ => Ok(()),
        }
    }
}

/// Whether `option` is one like `-c`, `-lc` or `--eval`.
fn takes_program_text(option: &str, letter: char) -> bool {
    match option.strip_prefix("--") {
        Some(long) => matches!(long, "eval" | "command"),
        None => option.starts_with('-') && option.ends_with(letter),
    }
}

/// What the scanner is inside of. The bottom of the stack is the program itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// Program text: the top level, `$(...)` or `(...)`.
    Program,
    /// `"..."`.
    Double,
    /// `${...}`.
    Expansion,
    /// `$((...))`; the number counts parentheses still open inside.
    Arithmetic(u32),
    /// Backquotes.
    Backquotes,
}

struct Scanner<'a> {
    source: &'a [u8],
    position: usize,
    frames: Vec<Frame>,
    segments: Vec<Segment>,
    text: Vec<u8>,
    /// The word being read, without quotes, and the words before it.
    word: Vec<u8>,
    /// Slots of the word being read. A word that is one placeholder and nothing else is the
    /// argument itself, not text around it.
    word_slots: Vec<Placeholder>,
    command: CommandWords,
    /// What was being read outside of each `(...)` that is open.
    outer: Vec<(Vec<u8>, Vec<Placeholder>, CommandWords)>,
}

impl<'a> Scanner<'a> {
    fn new(source: &'a [u8]) -> Self {
        Self {
            source,
            position: 0,
            frames: vec![Frame::Program],
            segments: Vec::new(),
            text: Vec::new(),
            word: Vec::new(),
            word_slots: Vec::new(),
            command: CommandWords::default(),
            outer: Vec::new(),
        }
    }

    fn run(mut self) -> Result<Vec<Segment>, TemplateError> {
        while let Some(&byte) = self.source.get(self.position) {
            match self.frame() {
                Frame::Program => self.step_program(byte)?,
                Frame::Double => self.step_double(byte)?,
                Frame::Expansion => self.step_expansion(byte)?,
                Frame::Arithmetic(open) => self.step_arithmetic(byte, open)?,
                Frame::Backquotes => self.step_backquotes(byte)?,
            }
        }
        self.end_word()?;
        self.flush_text();
        Ok(self.segments)
    }

    fn frame(&self) -> Frame {
        *self.frames.last().expect("the bottom frame is never popped")
    }

    fn rest(&self) -> &'a [u8] {
        &self.source[self.position..]
    }

    fn step_program(&mut self, byte: u8) -> Result<(), TemplateError> {
        match byte {
            b'\'' => self.single_quoted(),
            b'"' => self.open(Frame::Double, 1),
            b'#' if self.word.is_empty() && self.word_slots.is_empty() => self.comment(),
            b' ' | b'\t' => {
                self.end_word()?;
                self.skip(1);
            }
            b'\n' | b';' | b'&' | b'|' | b'<' | b'>' => {
                self.end_command(matches!(byte, b'<' | b'>'))?;
                self.skip(1);
            }
            b'(' => {
                self.end_command(false)?;
                self.open_program(1);
            }
            b')' if self.frames.len() > 1 => {
                self.end_command(false)?;
                self.close_program();
            }
            _ => self.step_common(byte, Context::Bare)?,
        }
        Ok(())
    }

    fn step_double(&mut self, byte: u8) -> Result<(), TemplateError> {
        match byte {
            b'"' => self.close(1),
            _ => self.step_common(byte, Context::DoubleQuoted)?,
        }
        Ok(())
    }

    fn step_expansion(&mut self, byte: u8) -> Result<(), TemplateError> {
        match byte {
            b'}' => self.close(1),
            b'"' => self.open(Frame::Double, 1),
            _ if self.frames.contains(&Frame::Double) => {
                self.step_common(byte, Context::QuotedExpansion)?;
            }
            _ => self.step_common(byte, Context::Bare)?,
        }
        Ok(())
    }

    fn step_arithmetic(&mut self, byte: u8, open: u32) -> Result<(), TemplateError> {
        match byte {
            b'(' => self.set_arithmetic(open + 1),
            b')' if open > 0 => self.set_arithmetic(open - 1),
            b')' => self.close(self.rest().iter().take_while(|b| **b == b')').take(2).count()),
            _ => self.step_common(byte, Context::DoubleQuoted)?,
        }
        Ok(())
    }

    fn step_backquotes(&mut self, byte: u8) -> Result<(), TemplateError> {
        match byte {
            b'`' => self.close(1),
            _ => self.step_common(byte, Context::Bare)?,
        }
        Ok(())
    }

    /// What means the same in every frame: escapes, expansions and placeholders.
    fn step_common(&mut self, byte: u8, context: Context) -> Result<(), TemplateError> {
        let rest = self.rest();
        match byte {
            b'\\' => self.take(2),
            b'`' => self.open(Frame::Backquotes, 1),
            b'$' if rest.starts_with(b"$((") => self.open(Frame::Arithmetic(0), 3),
            b'$' if rest.starts_with(b"$(") => self.open_program(2),
            b'$' if rest.starts_with(b"${") => self.open(Frame::Expansion, 2),
            b'{' => match Placeholder::at_start_of(rest) {
                Some((placeholder, len)) => self.slot(placeholder, len, context)?,
                None => self.take(1),
            },
            _ => self.take(1),
        }
        Ok(())
    }

    fn slot(
        &mut self,
        placeholder: Placeholder,
        len: usize,
        context: Context,
    ) -> Result<(), TemplateError> {
        // A number is written into the program as it is, and is safe anywhere.
        if placeholder != Placeholder::Number {
            if self.frames.contains(&Frame::Backquotes) {
                return Err(TemplateError::InsideBackquotes { placeholder });
            }
            if self.frames.iter().any(|frame| matches!(frame, Frame::Arithmetic(_))) {
                return Err(TemplateError::InsideArithmetic { placeholder });
            }
        }
        self.flush_text();
        self.segments.push(Segment::Slot { placeholder, context });
        self.word_slots.push(placeholder);
        self.position += len;
        Ok(())
    }

    fn single_quoted(&mut self) {
        let body_start = self.position + 1;
        let body = self.source[body_start..].iter().position(|b| *b == b'\'');
        let end = body.map_or(self.source.len(), |len| body_start + len);
        self.skip(1);
        while self.position < end {
            match Placeholder::at_start_of(&self.source[self.position..end]) {
                Some((placeholder, len)) => {
                    self.flush_text();
                    let context = Context::SingleQuoted;
                    self.segments.push(Segment::Slot { placeholder, context });
                    self.word_slots.push(placeholder);
                    self.position += len;
                }
                None => self.take(1),
            }
        }
        self.skip(1);
    }

    fn comment(&mut self) {
        let rest = self.rest();
        self.skip(rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()));
    }

    /// Copies `len` bytes that are part of a word.
    fn take(&mut self, len: usize) {
        let end = (self.position + len).min(self.source.len());
        self.word.extend_from_slice(&self.source[self.position..end]);
        self.skip(len);
    }

    /// Copies `len` bytes that are quotes or stand between words.
    fn skip(&mut self, len: usize) {
        let end = (self.position + len).min(self.source.len());
        self.text.extend_from_slice(&self.source[self.position..end]);
        self.position = end;
    }

    fn open(&mut self, frame: Frame, len: usize) {
        self.skip(len);
        self.frames.push(frame);
    }

    fn close(&mut self, len: usize) {
        self.skip(len);
        self.frames.pop();
    }

    /// Opens `(...)` or `$(...)`, which holds commands of its own.
    fn open_program(&mut self, len: usize) {
        self.open(Frame::Program, len);
        let word = std::mem::take(&mut self.word);
        let word_slots = std::mem::take(&mut self.word_slots);
        self.outer.push((word, word_slots, std::mem::take(&mut self.command)));
    }

    /// Closes it and goes on with the word it stands in, of which its output is a part.
    fn close_program(&mut self) {
        self.close(1);
        if let Some((word, word_slots, command)) = self.outer.pop() {
            (self.word, self.word_slots, self.command) = (word, word_slots, command);
            self.word.extend_from_slice(b"$()");
        }
    }

    fn set_arithmetic(&mut self, open: u32) {
        self.take(1);
        *self.frames.last_mut().expect("the frame is an arithmetic one") = Frame::Arithmetic(open);
    }

    /// Ends the word being read: a space inside quotes never gets here.
    fn end_word(&mut self) -> Result<(), TemplateError> {
        let alone = self.word.is_empty() && self.word_slots.len() == 1;
        if !alone {
            for placeholder in &self.word_slots {
                self.command.refuse_program_text(*placeholder)?;
            }
        }
        if !self.word.is_empty() || !self.word_slots.is_empty() {
            let word = std::mem::take(&mut self.word);
            self.command.push(&word);
        }
        self.word_slots.clear();
        Ok(())
    }

    /// Ends the simple command; after a redirection it goes on.
    fn end_command(&mut self, redirection: bool) -> Result<(), TemplateError> {
        self.end_word()?;
        if !redirection {
            self.command = CommandWords::default();
        }
        Ok(())
    }

    fn flush_text(&mut self) {
        if !self.text.is_empty() {
            self.segments.push(Segment::Text(std::mem::take(&mut self.text)));
        }
    }
}
