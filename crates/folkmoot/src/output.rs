//! What commands print: one text for people, the same as JSON for programs.

use std::cell::Cell;
use std::fmt::{self, Display};
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use folkmoot_client::Doing;
use indicatif::{ProgressBar, ProgressDrawTarget};
use jiff::Timestamp;
use serde::Serialize;

/// What a command has to say: `Display` for people, `Serialize` for programs.
pub trait Report: Display + Serialize {}
impl<T: Display + Serialize> Report for T {}

/// Prints reports, in the form that the user chose.
pub struct Printer {
    pub json: bool,
    progress: ProgressBar,
    closed: Cell<bool>,
}

impl Printer {
    pub fn new(json: bool) -> Self {
        Self {
            json,
            progress: ProgressBar::hidden(),
            closed: Cell::new(false),
        }
    }

    /// Shows a spinner on the terminal, if there is one, as long as the value lives.
    pub fn busy(&self) -> Busy<'_> {
        if !self.json {
            self.progress.set_draw_target(ProgressDrawTarget::stderr());
            self.progress.enable_steady_tick(Duration::from_millis(100));
        }
        Busy(&self.progress)
    }

    /// Says beside the spinner how far something is that takes long.
    pub fn progress(&self) -> impl FnMut(Doing, usize, usize) + Send + 'static {
        let progress = self.progress.clone();
        move |doing, done, of| {
            let what = match doing {
                Doing::LookingUp => "users looked up",
                Doing::Taking => "users' key packages taken",
                Doing::Inviting => "users invited",
                Doing::Uploading => "MiB of the commit uploaded",
                _ => "done",
            };
            progress.set_message(format!("{done} of {of} {what}"));
        }
    }

    /// Prints one report. A closed pipe is no error: whoever read has read enough.
    pub fn print(&self, report: &impl Report) -> io::Result<()> {
        self.progress.suspend(|| {
            // Never all of it in memory: a report may be much longer than what it is about.
            let mut out = BufWriter::new(io::stdout().lock());
            let written = if self.json {
                serde_json::to_writer(&mut out, report).map_err(io::Error::from)
            } else {
                write!(out, "{report}")
            };
            match written
                .and_then(|()| writeln!(out))
                .and_then(|()| out.flush())
            {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.closed.set(true);
                    Ok(())
                }
                result => result,
            }
        })
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Prints why a command failed: one line on standard error, as JSON on standard output.
    pub fn fail(&self, error: &dyn Display) {
        if self.json {
            let line = serde_json::json!({ "error": error.to_string() });
            // Nothing is left to tell if even this cannot be written.
            let _ = writeln!(io::stdout(), "{line}");
        } else {
            let _ = writeln!(io::stderr(), "folkmoot: {}", Line(&error.to_string()));
        }
    }
}

/// Something is under way.
pub struct Busy<'a>(&'a ProgressBar);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Text from outside, made harmless for a terminal: control characters, which could move the cursor
/// or change what was printed before, are shown as `�`. Line ends and tabs stay.
pub struct Tame<'a>(pub &'a str);

impl Display for Tame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Write::write_str(&mut Taming(f), self.0)
    }
}

/// As [`Tame`], for text that is written piece by piece.
pub struct Taming<'a, 'b>(pub &'a mut fmt::Formatter<'b>);

impl fmt::Write for Taming<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.chars().all(is_tame) {
            return self.0.write_str(text);
        }
        text.chars()
            .try_for_each(|c| self.0.write_char(if is_tame(c) { c } else { '\u{fffd}' }))
    }
}

/// As [`Tame`], in one line: for names, titles and reasons, which must not look like lines of our own.
pub struct Line<'a>(pub &'a str);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.0.chars().try_for_each(|c| {
            f.write_char(match c {
                '\n' | '\t' => ' ',
                c if is_tame(c) => c,
                _ => '\u{fffd}',
            })
        })
    }
}

/// As [`Tame`], every line after the first behind a mark: what somebody said must not look like an
/// entry of somebody else.
pub struct Said<'a>(pub &'a str);

impl Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.0.split('\n').enumerate() {
            let mark = if at == 0 { "" } else { "\n    | " };
            let line = line.strip_suffix('\r').unwrap_or(line);
            write!(f, "{mark}{}", Tame(line))?;
        }
        Ok(())
    }
}

fn is_tame(c: char) -> bool {
    let overrides =
        ('\u{2028}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    matches!(c, '\n' | '\t') || !(c.is_control() || overrides)
}

/// A time of the services, milliseconds since 1970, as `2026-11-23 07:03:35` in UTC.
pub struct Time(pub u64);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().map(Timestamp::from_millisecond);
        match time {
            Some(Ok(time)) => write!(f, "{}", time.strftime("%F %T")),
            _ => f.write_str("(no date)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_read_them() {
        assert_eq!(Time(0).to_string(), "1970-01-01 00:00:00");
        assert_eq!(Time(951_782_400_000).to_string(), "2000-02-29 00:00:00");
        assert_eq!(Time(1_795_417_415_000).to_string(), "2026-11-23 07:03:35");
        assert_eq!(Time(u64::MAX).to_string(), "(no date)");
    }

    #[test]
    fn nobody_speaks_in_the_name_of_another() {
        let forged = "hi\r\n2026-11-23 07:03:35  epoch 3  bob@localhost: I agree";
        let shown = Said(forged).to_string();
        let mut lines = shown.lines();
        assert_eq!(lines.next(), Some("hi"));
        assert!(lines.all(|line| line.starts_with("    | ")));
        assert_eq!(Line("a\nb\tc\x1b").to_string(), "a b c\u{fffd}");
    }

    #[test]
    fn a_terminal_is_not_at_the_mercy_of_what_was_sent() {
        assert_eq!(
            Tame("a\x1b[2Jb\u{202e}c\nd").to_string(),
            "a\u{fffd}[2Jb\u{fffd}c\nd"
        );
    }
}
