//! How things look on the screen.

use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

/// The screen: steps, and one line that is rewritten if it is a terminal.
#[derive(Debug)]
pub(crate) struct Screen {
    is_terminal: bool,
    is_live: bool,
    shown: Option<Instant>,
}

/// How often the line is shown: to a person, or to a file.
const TERMINAL_PERIOD: Duration = Duration::from_millis(200);
const FILE_PERIOD: Duration = Duration::from_secs(1);

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            is_terminal: stdout().is_terminal(),
            is_live: false,
            shown: None,
        }
    }

    /// A line that stays, above the live one if there is one.
    pub(crate) fn say(&mut self, text: impl AsRef<str>) {
        if self.is_live {
            print!("\r\x1b[K");
            self.is_live = false;
        }
        println!("{}", text.as_ref());
    }

    /// Whether it is time for the next state of the live line.
    pub(crate) fn is_due(&self) -> bool {
        let period = if self.is_terminal {
            TERMINAL_PERIOD
        } else {
            FILE_PERIOD
        };
        self.shown.is_none_or(|at| at.elapsed() >= period)
    }

    /// The next state of the live line.
    pub(crate) fn live(&mut self, text: &str) {
        self.shown = Some(Instant::now());
        if !self.is_terminal {
            println!("{text}");
            return;
        }
        print!("\r\x1b[K{text}");
        // A screen that is gone is noticed by the next line that stays.
        let _ = stdout().flush();
        self.is_live = true;
    }

    /// Leaves the live line as it is and goes on below it.
    pub(crate) fn keep(&mut self) {
        if self.is_live {
            println!();
            self.is_live = false;
        }
    }
}

/// A number with its thousands apart, such as `12,345`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds with one digit behind the point, such as `1.4 s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
