//! `[job.NAME.drill]`: what a drill restores and what must come out.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::file::Text;
use super::values::{Wrong, absolute, duration, optional, optional_path, size, text, wrong};
use crate::job::schedule::Schedule;

/// Files that a drill restores where a job says nothing.
const DEFAULT_FILES: u64 = 100;
/// Bytes that these files may have together where a job says nothing.
const DEFAULT_FILE_BYTES: u64 = 1 << 30;
/// How long a drill may take where a job says nothing.
const DEFAULT_TIME: Duration = Duration::from_secs(6 * 3600);

/// `[job.NAME.drill]`, with all defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Drill {
    /// How many files are restored, chosen at random.
    pub files: Sample,
    /// How many bytes they may have together; larger ones are left out.
    pub file_bytes: u64,
    /// What must be in the snapshot; files of these are restored, too.
    pub require: Vec<PathBuf>,
    /// What is asked of the restored databases.
    pub queries: Vec<DrillQuery>,
    /// Where the scratch folder is made.
    pub folder: Option<PathBuf>,
    /// Who runs the scratch servers when root runs the drill.
    pub user: Option<String>,
    /// How long it may take.
    pub time: Duration,
    /// How old the last successful drill may be.
    pub max_age: Option<Duration>,
    /// When it is to run, if a schedule is to run it.
    pub schedule: Option<Schedule>,
}

impl Default for Drill {
    fn default() -> Self {
        Self {
            files: Sample::Number(DEFAULT_FILES),
            file_bytes: DEFAULT_FILE_BYTES,
            require: Vec::new(),
            queries: Vec::new(),
            folder: None,
            user: None,
            time: DEFAULT_TIME,
            max_age: None,
            schedule: None,
        }
    }
}

/// How many files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// So many.
    Number(u64),
    /// So many of a hundred.
    Percent(f64),
}

/// `[[job.NAME.drill.sql]]`: a query and what it must give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillQuery {
    /// The database, by its name or that of its stream.
    pub database: String,
    /// One statement.
    pub query: String,
    /// What is right.
    pub expected: Expected,
}

/// What a query must give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A row at least.
    Row,
    /// This as its first row, columns with `|` between them.
    Value(String),
    /// A number that is not less.
    AtLeast(i64),
}

/// The table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Written {
    files: Option<Spanned<NumberOrText>>,
    file_bytes: Option<Text>,
    #[serde(default)]
    require: Vec<Text>,
    #[serde(default)]
    sql: Vec<Spanned<WrittenQuery>>,
    folder: Option<Text>,
    user: Option<Text>,
    time: Option<Text>,
    max_age: Option<Text>,
    schedule: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number or a text")]
enum NumberOrText {
    Number(i64),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenQuery {
    database: Text,
    query: Text,
    value: Option<Spanned<NumberOrText>>,
    at_least: Option<Spanned<i64>>,
}

/// Checks the table.
pub(super) fn drill(written: Written) -> Result<Drill, Wrong> {
    let default = Drill::default();
    let require = written.require.iter().map(|path| absolute(path, "require"));
    Ok(Drill {
        files: written.files.map(sample).transpose()?.unwrap_or(default.files),
        file_bytes: written
            .file_bytes
            .map_or(Ok(default.file_bytes), |value| size(&value, "file-bytes"))?,
        require: require.collect::<Result<_, _>>()?,
        queries: written.sql.into_iter().map(query).collect::<Result<_, _>>()?,
        folder: optional_path(written.folder, "folder")?,
        user: optional(written.user, "user")?,
        time: written.time.map_or(Ok(default.time), |value| duration(&value, "time"))?,
        max_age: written.max_age.map(|value| duration(&value, "max-age")).transpose()?,
        schedule: written.schedule.as_ref().map(super::check::schedule).transpose()?,
    })
}

fn sample(written: Spanned<NumberOrText>) -> Result<Sample, Wrong> {
    let parsed = match written.get_ref() {
        NumberOrText::Number(number) => u64::try_from(*number).ok().map(Sample::Number),
        NumberOrText::Text(text) => text
            .strip_suffix('%')
            .and_then(|number| number.trim().parse().ok())
            .filter(|percent| (0.0..=100.0).contains(percent))
            .map(Sample::Percent),
    };
    parsed.ok_or_else(|| {
        let reason = "`files` is neither a number nor a share";
        wrong(&written, reason, "write how many, such as 200, or a share of them, such as \"1%\"")
    })
}

fn query(written: Spanned<WrittenQuery>) -> Result<DrillQuery, Wrong> {
    let whole = Spanned::new(written.span(), ());
    let written = written.into_inner();
    let expected = match (written.value, written.at_least) {
        (None, None) => Expected::Row,
        (Some(value), None) => Expected::Value(match value.into_inner() {
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        }),
        (None, Some(number)) => Expected::AtLeast(number.into_inner()),
        _ => return Err(wrong(&whole, "`value` and `at-least` are both given", "leave one out")),
    };
    Ok(DrillQuery {
        database: text(written.database, "database")?,
        query: text(written.query, "query")?,
        expected,
    })
}
