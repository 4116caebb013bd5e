//! The options that say what a policy keeps.

use gabion::job::config::Keep;
use gabion::ops::retention::{KeepSpan, Policy};

use crate::errors::Failure;

/// What a policy keeps
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What a policy keeps")]
pub(crate) struct KeepArgs {
    /// The newest N
    #[arg(long, value_name = "N")]
    keep_last: Option<u64>,
    /// The newest of each of the newest N hours that have a snapshot
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u64>,
    /// The newest of each of the newest N days that have a snapshot
    #[arg(long, value_name = "N")]
    keep_daily: Option<u64>,
    /// The newest of each of the newest N weeks (from Monday on) that have a snapshot
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u64>,
    /// The newest of each of the newest N months that have a snapshot
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u64>,
    /// The newest of each of the newest N years that have a snapshot
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u64>,
    /// All that are no older than this before the newest
    #[arg(long, value_name = "DURATION")]
    keep_within: Option<KeepSpan>,
    /// The newest of each hour within this duration
    #[arg(long, value_name = "DURATION")]
    keep_within_hourly: Option<KeepSpan>,
    /// The newest of each day within this duration
    #[arg(long, value_name = "DURATION")]
    keep_within_daily: Option<KeepSpan>,
    /// The newest of each week within this duration
    #[arg(long, value_name = "DURATION")]
    keep_within_weekly: Option<KeepSpan>,
    /// The newest of each month within this duration
    #[arg(long, value_name = "DURATION")]
    keep_within_monthly: Option<KeepSpan>,
    /// The newest of each year within this duration
    #[arg(long, value_name = "DURATION")]
    keep_within_yearly: Option<KeepSpan>,
    /// All with this tag; given several times: with any of them
    #[arg(long, value_name = "TAG")]
    keep_tag: Vec<String>,
}

impl KeepArgs {
    /// The policy; nothing when none of the options was given.
    pub(crate) fn policy(&self) -> Option<Policy> {
        let counts = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        let spans = [
            self.keep_within,
            self.keep_within_hourly,
            self.keep_within_daily,
            self.keep_within_weekly,
            self.keep_within_monthly,
            self.keep_within_yearly,
        ];
        let is_given = counts.iter().any(Option::is_some)
            || spans.iter().any(Option::is_some)
            || !self.keep_tag.is_empty();
        let [last, hourly, daily, weekly, monthly, yearly] = counts.map(Option::unwrap_or_default);
        let [within, within_hourly, within_daily, within_weekly, within_monthly, within_yearly] =
            spans;
        is_given.then(|| Policy {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within,
            within_hourly,
            within_daily,
            within_weekly,
            within_monthly,
            within_yearly,
            tags: self.keep_tag.clone(),
        })
    }
}

/// The policy of a configured job.
pub(crate) fn keep_of_job(keep: &Keep) -> Result<Policy, Failure> {
    let count = |count: Option<u32>| u64::from(count.unwrap_or(0));
    let within = keep.within.map(|time| {
        let hours = time.as_secs().div_ceil(3600);
        let span = format!("{}d{}h", hours / 24, hours % 24).parse::<KeepSpan>();
        span.map_err(|error| Failure::usage(format!("keep.within: {error}")))
    });
    Ok(Policy {
        last: count(keep.last),
        hourly: count(keep.hourly),
        daily: count(keep.daily),
        weekly: count(keep.weekly),
        monthly: count(keep.monthly),
        yearly: count(keep.yearly),
        within: within.transpose()?,
        tags: keep.tags.clone(),
        ..Policy::default()
    })
}
