//! Finds the placeholders of a shell program and the quoting each stands in.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::here_document::HereDocument;
use super::program_text::{CommandWords, Target, Word};
use super::{Context, Placeholder, Segment, TemplateError, quote};

/// Scans a shell program. Without a placeholder the argument is appended.
pub(super) fn program(source: &[u8]) -> Result<Vec<Segment>, TemplateError> {
    if source.contains(&0) {
        return Err(TemplateError::NulByte);
    }
    Scanner::new(source, Frame::Program).run()
}

/// Makes a program of words that are to be passed on just as they are. Without a placeholder the
/// argument is appended.
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
        command.push(&scan_literal_word(word, &mut segments))?;
    }
    if !has_slot(&segments) {
        command.push(&append_argument(&mut segments))?;
    }
    Ok(segments)
}

fn scan_literal_word(text: &[u8], segments: &mut Vec<Segment>) -> Word {
    let mut word = Word { text: text.to_vec(), slots: Vec::new(), started: true };
    let (mut position, mut text_start) = (0, 0);
    while position < text.len() {
        let Some((placeholder, len)) = Placeholder::at_start_of(&text[position..]) else {
            position += 1;
            continue;
        };
        push_quoted(&text[text_start..position], segments);
        segments.push(Segment::Slot { placeholder, context: Context::Bare });
        word.slots.push(placeholder);
        position += len;
        text_start = position;
    }
    if text_start < text.len() || text.is_empty() {
        segments.push(Segment::Text(quote(&text[text_start..])));
    }
    word
}

fn has_slot(segments: &[Segment]) -> bool {
    segments.iter().any(|segment| matches!(segment, Segment::Slot { .. }))
}

/// Adds ` {}` and returns the word that this is.
fn append_argument(segments: &mut Vec<Segment>) -> Word {
    let placeholder = Placeholder::Argument;
    segments.push(Segment::Text(b" ".to_vec()));
    segments.push(Segment::Slot { placeholder, context: Context::Bare });
    let mut word = Word::default();
    word.push_slot(placeholder);
    word
}

fn push_quoted(text: &[u8], segments: &mut Vec<Segment>) {
    if !text.is_empty() {
        segments.push(Segment::Text(quote(text)));
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
    /// The body of a here-document, where quotes are ordinary characters.
    HereDocument,
    /// The same where nothing is expanded.
    QuotedHereDocument,
}

/// What was being read outside of `(...)` or `$(...)`.
struct Outer {
    word: Word,
    command: CommandWords,
    here_documents: Vec<HereDocument>,
}

struct Scanner<'a> {
    source: &'a [u8],
    position: usize,
    frames: Vec<Frame>,
    segments: Vec<Segment>,
    text: Vec<u8>,
    word: Word,
    command: CommandWords,
    /// Here-documents of finished commands, whose bodies begin at the next newline.
    here_documents: Vec<HereDocument>,
    outer: Vec<Outer>,
}

impl<'a> Scanner<'a> {
    fn new(source: &'a [u8], bottom: Frame) -> Self {
        Self {
            source,
            position: 0,
            frames: vec![bottom],
            segments: Vec::new(),
            text: Vec::new(),
            word: Word::default(),
            command: CommandWords::default(),
            here_documents: Vec::new(),
            outer: Vec::new(),
        }
    }

    fn run(mut self) -> Result<Vec<Segment>, TemplateError> {
        self.scan()?;
        self.end_word()?;
        self.flush_text();
        if !has_slot(&self.segments) {
            self.word = append_argument(&mut self.segments);
        }
        self.end_command()?;
        Ok(self.segments)
    }

    /// Scans the source up to its end, where a word may still be open.
    fn scan(&mut self) -> Result<(), TemplateError> {
        while let Some(&byte) = self.source.get(self.position) {
            match self.frame() {
                Frame::Program => self.step_program(byte)?,
                Frame::Double => self.step_double(byte)?,
                Frame::Expansion => self.step_expansion(byte)?,
                Frame::Arithmetic(open) => self.step_arithmetic(byte, open)?,
                Frame::Backquotes => self.step_backquotes(byte)?,
                Frame::HereDocument => self.step_common(byte, Context::HereDocument)?,
                Frame::QuotedHereDocument => self.step_literal(Context::HereDocument),
            }
        }
        Ok(())
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
            b'#' if !self.word.started => self.comment(),
            b' ' | b'\t' => {
                self.end_word()?;
                self.skip(1);
            }
            b'<' | b'>' => self.redirection()?,
            b'&' if self.rest().starts_with(b"&>") => self.redirection()?,
            b'\n' => {
                self.end_command()?;
                self.skip(1);
                self.here_document_bodies()?;
            }
            b';' | b'&' | b'|' => {
                self.end_command()?;
                self.skip(1);
            }
            b'(' => {
                self.end_command()?;
                let here_documents = std::mem::take(&mut self.here_documents);
                self.open_program(1);
                // The next newline is the same one in a subshell.
                self.here_documents = here_documents;
            }
            b')' => {
                self.end_command()?;
                match self.frames.len() {
                    // Of `case ... in pattern)`.
                    1 => self.skip(1),
                    _ => self.close_program(),
                }
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
            _ if self.is_quoted() => {
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
            b'\\' if rest.starts_with(b"\\\n") => self.skip(2),
            b'\\' => {
                self.skip(1);
                self.take(1);
            }
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
        self.push_slot(placeholder, len, context);
        Ok(())
    }

    fn push_slot(&mut self, placeholder: Placeholder, len: usize, context: Context) {
        self.flush_text();
        self.segments.push(Segment::Slot { placeholder, context });
        self.word.push_slot(placeholder);
        self.position += len;
    }

    /// Whether `${...}` stands in double quotes or a here-document, and not in a `$(...)` there.
    fn is_quoted(&self) -> bool {
        let inner = self.frames.iter().rev().take_while(|frame| **frame != Frame::Program);
        inner.into_iter().any(|frame| matches!(frame, Frame::Double | Frame::HereDocument))
    }

    fn single_quoted(&mut self) {
        let body_start = self.position + 1;
        let body = self.source[body_start..].iter().position(|b| *b == b'\'');
        let end = body.map_or(self.source.len(), |len| body_start + len);
        self.skip(1);
        self.word.started = true;
        while self.position < end {
            self.step_literal(Context::SingleQuoted);
        }
        self.skip(1);
    }

    /// Where only a placeholder is special. None can reach beyond the end of what is quoted, since
    /// there is no quote and no newline in one.
    fn step_literal(&mut self, context: Context) {
        match Placeholder::at_start_of(self.rest()) {
            Some((placeholder, len)) => self.push_slot(placeholder, len, context),
            None => self.take(1),
        }
    }

    fn comment(&mut self) {
        let rest = self.rest();
        self.skip(rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()));
    }

    /// Copies `len` bytes that are part of a word.
    fn take(&mut self, len: usize) {
        let end = (self.position + len).min(self.source.len());
        self.word.text.extend_from_slice(&self.source[self.position..end]);
        self.word.started = true;
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
        self.word.started = true;
    }

    fn close(&mut self, len: usize) {
        self.skip(len);
        self.frames.pop();
    }

    /// Opens `(...)` or `$(...)`, which holds commands of its own.
    fn open_program(&mut self, len: usize) {
        self.open(Frame::Program, len);
        self.outer.push(Outer {
            word: std::mem::take(&mut self.word),
            command: std::mem::take(&mut self.command),
            here_documents: std::mem::take(&mut self.here_documents),
        });
    }

    /// Closes it and goes on with the word it stands in, of which its output is a part.
    fn close_program(&mut self) {
        self.close(1);
        if let Some(outer) = self.outer.pop() {
            (self.word, self.command) = (outer.word, outer.command);
            self.here_documents.splice(..0, outer.here_documents);
            self.word.text.extend_from_slice(b"$()");
        }
    }

    fn set_arithmetic(&mut self, open: u32) {
        self.take(1);
        *self.frames.last_mut().expect("the frame is an arithmetic one") = Frame::Arithmetic(open);
    }

    /// Ends the word being read: a space inside quotes never gets here.
    fn end_word(&mut self) -> Result<(), TemplateError> {
        let word = std::mem::take(&mut self.word);
        if word.started { self.command.push(&word) } else { Ok(()) }
    }

    /// Ends the simple command.
    fn end_command(&mut self) -> Result<(), TemplateError> {
        self.end_word()?;
        let command = std::mem::take(&mut self.command);
        self.here_documents.extend(command.finish()?);
        Ok(())
    }

    /// Reads an operator that begins with `<` or `>`, or `&>`. The command goes on after it, so
    /// that `bash 2>&1 -c TEXT` is seen as what it is.
    fn redirection(&mut self) -> Result<(), TemplateError> {
        let rest = self.rest();
        if rest.starts_with(b"<(") || rest.starts_with(b">(") {
            self.open_program(2);
            return Ok(());
        }
        if self.word.text.iter().all(u8::is_ascii_digit) {
            // The number of a file descriptor is no word of the command.
            self.word = Word::default();
        }
        self.end_word()?;
        let starts_with = |operator: &&&[u8]| rest.starts_with(operator);
        if rest.starts_with(b"<<<") {
            self.skip(3);
            self.command.redirect(Target::HereString);
        } else if rest.starts_with(b"<<") {
            let strips_tabs = rest.starts_with(b"<<-");
            self.skip(2 + usize::from(strips_tabs));
            let (document, len) = HereDocument::parse(self.rest(), strips_tabs);
            self.skip(len);
            self.command.push_here_document(document);
        } else {
            let operators: [&[u8]; 7] = [b"&>>", b"&>", b">>", b">&", b">|", b"<&", b"<>"];
            self.skip(operators.iter().find(starts_with).map_or(1, |operator| operator.len()));
            self.command.redirect(Target::File);
        }
        Ok(())
    }

    /// Reads the bodies of the here-documents of the line that has just ended.
    fn here_document_bodies(&mut self) -> Result<(), TemplateError> {
        for document in std::mem::take(&mut self.here_documents) {
            let rest = self.rest();
            let (body_len, len) = document.extent(rest);
            self.flush_text();
            self.segments.extend(here_document_body(&document, &rest[..body_len])?);
            self.position += body_len;
            self.skip(len - body_len);
        }
        Ok(())
    }

    fn flush_text(&mut self) {
        if !self.text.is_empty() {
            self.segments.push(Segment::Text(std::mem::take(&mut self.text)));
        }
    }
}

fn here_document_body(document: &HereDocument, body: &[u8]) -> Result<Vec<Segment>, TemplateError> {
    let bottom = if document.quoted { Frame::QuotedHereDocument } else { Frame::HereDocument };
    let mut scanner = Scanner::new(body, bottom);
    scanner.scan()?;
    scanner.flush_text();
    if let Some(interpreter) = document.interpreter
        && let Some(placeholder) = scanner.word.slot_within_text()
    {
        return Err(TemplateError::InsideProgramText { placeholder, interpreter });
    }
    if document.quoted
        && let Some(placeholder) = scanner.word.slot()
    {
        let delimiter = String::from_utf8_lossy(&document.delimiter).into_owned();
        return Err(TemplateError::InsideQuotedHereDocument { placeholder, delimiter });
    }
    Ok(scanner.segments)
}
