//! The progress bar: entries, bytes, rate and time left.

use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use gabion::event::Event;
use gabion::format::path::printable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the path that is worked on is shown anew.
const PATH_EVERY: Duration = Duration::from_millis(100);

const OPEN: &str = "{spinner} {prefix}  {bytes}  {bytes_per_sec}  {wide_msg}";
const BOUNDED: &str =
    "{spinner} [{bar:24}] {prefix}  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {wide_msg}";

/// A bar on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    items: u64,
    total_items: u64,
    path_shown: Option<Instant>,
}

impl Progress {
    /// Nothing is drawn before the first event.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style(OPEN));
        Self { bar, items: 0, total_items: 0, path_shown: None }
    }

    /// Shows what happened. Problems, notes and commands' output are lines, not progress.
    pub(crate) fn take(&mut self, event: &Event) {
        if self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
        match event {
            Event::Total { items, bytes } => {
                self.total_items = *items;
                self.bar.set_length(*bytes);
                self.bar.set_style(style(if *bytes > 0 { BOUNDED } else { OPEN }));
            }
            Event::Progress { items, bytes } => {
                self.items += items;
                self.bar.inc(*bytes);
                self.bar.set_prefix(self.counted());
            }
            Event::Working(path)
                if self.path_shown.is_none_or(|shown| shown.elapsed() >= PATH_EVERY) =>
            {
                self.path_shown = Some(Instant::now());
                self.bar.set_message(printable(path.as_os_str().as_bytes()));
            }
            Event::Phase(name) => self.bar.set_message(*name),
            _ => {}
        }
    }

    /// A line above the bar.
    pub(crate) fn print_above(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.suspend(|| eprintln!("{line}"));
        }
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&mut self) {
        self.bar.finish_and_clear();
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
    }

    fn counted(&self) -> String {
        match self.total_items {
            0 => self.items.to_string(),
            total => format!("{}/{total}", self.items),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is one of ours")
}
