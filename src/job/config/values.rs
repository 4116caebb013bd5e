//! Single values of the configuration: texts, paths, counts, durations, sizes.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::file::Text;
use crate::format::path::printable;

/// What is wrong, where in the text, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) at: Option<usize>,
    pub(super) reason: String,
    pub(super) cure: Option<String>,
}

/// Something wrong at the value that `at` stands at.
pub(super) fn wrong<T>(at: &Spanned<T>, reason: impl Into<String>, cure: &str) -> Wrong {
    Wrong { at: Some(at.span().start), reason: reason.into(), cure: Some(cure.to_owned()) }
}

/// A text that is not empty and holds nothing that could hide in a line.
pub(super) fn text(value: Text, key: &str) -> Result<String, Wrong> {
    if value.get_ref().trim().is_empty() {
        return Err(wrong(&value, format!("`{key}` is empty"), "give it a value, or leave it out"));
    }
    if value.get_ref().contains('\0') {
        return Err(wrong(&value, format!("`{key}` holds a zero byte"), "take it out"));
    }
    Ok(value.into_inner())
}

/// An optional text.
pub(super) fn optional(value: Option<Text>, key: &str) -> Result<Option<String>, Wrong> {
    value.map(|value| text(value, key)).transpose()
}

/// Several texts.
pub(super) fn texts(values: Vec<Text>, key: &str) -> Result<Vec<String>, Wrong> {
    values.into_iter().map(|value| text(value, key)).collect()
}

/// An absolute path without `.` and `..`: cron starts jobs in a folder that nobody chose.
pub(super) fn absolute(value: &Text, key: &str) -> Result<PathBuf, Wrong> {
    let path = Path::new(value.get_ref());
    let shown = printable(value.get_ref().as_bytes());
    if !path.is_absolute() || value.get_ref().contains('\0') {
        let reason = format!("`{key}` is no absolute path: {shown:?}");
        return Err(wrong(value, reason, "begin it with a slash"));
    }
    if path.components().any(|component| component == Component::ParentDir) {
        let reason = format!("`{key}` holds a `..`: {shown:?}");
        return Err(wrong(value, reason, "write the path without it"));
    }
    Ok(path.components().collect())
}

/// An optional absolute path.
pub(super) fn optional_path(value: Option<Text>, key: &str) -> Result<Option<PathBuf>, Wrong> {
    value.map(|value| absolute(&value, key)).transpose()
}

/// A number above zero.
pub(super) fn count(value: Option<Spanned<i64>>, key: &str) -> Result<Option<u32>, Wrong> {
    let Some(value) = value else { return Ok(None) };
    match u32::try_from(*value.get_ref()) {
        Ok(0) | Err(_) => {
            let reason = format!("`{key}` must be a number from 1, not {}", value.get_ref());
            Err(wrong(&value, reason, "leave it out to keep none because of this rule"))
        }
        Ok(count) => Ok(Some(count)),
    }
}

/// A port.
pub(super) fn port(value: Option<Spanned<i64>>) -> Result<Option<u16>, Wrong> {
    let Some(value) = value else { return Ok(None) };
    match u16::try_from(*value.get_ref()) {
        Ok(0) | Err(_) => {
            let reason = format!("`port` must lie between 1 and 65535, not {}", value.get_ref());
            Err(wrong(&value, reason, "leave it out for the default port"))
        }
        Ok(port) => Ok(Some(port)),
    }
}

/// A duration such as `90s`, `30m`, `26h`, `14d`, `6w`.
pub(super) fn duration(value: &Text, key: &str) -> Result<Duration, Wrong> {
    parse_duration(value.get_ref()).ok_or_else(|| {
        let shown = printable(value.get_ref().as_bytes());
        let reason = format!("`{key}` is no duration above zero: {shown:?}");
        wrong(value, reason, "write a number and a unit: 90s, 30m, 26h, 14d or 6w")
    })
}

/// A duration above zero from its text.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    // A thousand years are enough, and no sum with a time can overflow.
    (1..=1000 * 366 * 86_400).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// The same duration as a text that is read back, in its largest whole unit.
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    for (unit, name) in [(7 * 86_400, 'w'), (86_400, 'd'), (3600, 'h'), (60, 'm')] {
        if seconds >= unit && seconds.is_multiple_of(unit) {
            return format!("{}{name}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

/// A size such as `500M` or `2GiB`, in bytes.
pub(super) fn size(value: &Text, key: &str) -> Result<u64, Wrong> {
    let parsed = || {
        let text = value.get_ref();
        let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let power = match unit.trim_start().to_ascii_lowercase().trim_end_matches("ib") {
            "" | "b" => 0,
            "k" | "kb" => 1,
            "m" | "mb" => 2,
            "g" | "gb" => 3,
            "t" | "tb" => 4,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(1 << (10 * power)).filter(|&bytes| bytes > 0)
    };
    parsed().ok_or_else(|| {
        let shown = printable(value.get_ref().as_bytes());
        let reason = format!("`{key}` is no size above zero: {shown:?}");
        wrong(value, reason, "write a number and a unit: 500M or 2GiB")
    })
}
