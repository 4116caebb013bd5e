//! Moments and spans of time, as records of the repository hold them.

use serde::{Deserialize, Serialize};

use super::entry::Timestamp;

/// A moment as stored: seconds since 1970-01-01 UTC and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment {
    /// Whole seconds.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

impl From<Moment> for Timestamp {
    fn from(moment: Moment) -> Self {
        Self { seconds: moment.seconds, nanos: moment.nanos }
    }
}

impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self { seconds: time.seconds, nanos: time.nanos }
    }
}

/// A span of time; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Window {
    /// Nothing before it; open where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Moment>,
    /// Nothing after it; open where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
}

impl Window {
    /// Whether `moment` lies in it.
    pub fn holds(&self, moment: Moment) -> bool {
        self.since.is_none_or(|since| since <= moment)
            && self.until.is_none_or(|until| moment <= until)
    }
}
