//! What `gabion status` writes for Prometheus.

use gabion::job::state::Outcome;

use super::Judged;

/// Figures in the text format of Prometheus. A job's name needs no escapes.
pub(super) fn figures(judged: &[Judged]) -> String {
    type Figure = fn(&Judged) -> Option<i128>;
    let ok: Figure = |job| {
        let last = job.status.last_run.as_ref();
        Some(i128::from(last.is_some_and(|run| run.outcome == Outcome::Ok)))
    };
    let table: [(&str, &str, Figure); 12] = [
        ("last_run_ok", "Whether the last run took a complete snapshot.", ok),
        ("last_run_timestamp_seconds", "When the last run ended.", |job| {
            job.status.last_run.as_ref().map(|run| i128::from(run.ended))
        }),
        ("last_success_timestamp_seconds", "When the last success ended.", |job| {
            job.status.last_success.as_ref().map(|run| i128::from(run.ended))
        }),
        ("last_run_duration_seconds", "How long the last run took.", |job| {
            job.status.last_run.as_ref().map(|run| i128::from(run.ended - run.started))
        }),
        (
            "verified_from_timestamp_seconds",
            "Since when, at least, each pack has been known to be whole.",
            |job| job.status.verified_from.map(i128::from),
        ),
        ("last_success_bytes", "Plain bytes of the last success.", |job| {
            job.status.last_success.as_ref().map(|run| i128::from(run.bytes))
        }),
        ("last_success_added_bytes", "Bytes that it added to the repository.", |job| {
            job.status.last_success.as_ref().map(|run| i128::from(run.added_bytes))
        }),
        ("last_success_growth_bytes", "How much larger it is than the one before.", |job| {
            job.growth().map(i128::from)
        }),
        ("last_check_timestamp_seconds", "When the last check behind a run ended.", |job| {
            job.status.last_check.map(|check| i128::from(check.ended))
        }),
        ("next_run_timestamp_seconds", "When the schedule comes next.", |job| {
            job.next_run.map(i128::from)
        }),
        ("last_drill_ok", "Whether the last drill found nothing wrong.", |job| {
            job.drill.as_ref().map(|drill| i128::from(drill.ok))
        }),
        ("last_good_drill_timestamp_seconds", "When the last such drill ended.", |job| {
            job.good_drill.map(i128::from)
        }),
    ];
    let mut text = String::new();
    for (name, help, figure) in table {
        let lines: Vec<String> = judged
            .iter()
            .filter_map(|job| Some((&job.status.job, figure(job)?)))
            .map(|(job, value)| format!("gabion_job_{name}{{job=\"{job}\"}} {value}\n"))
            .collect();
        if !lines.is_empty() {
            text.push_str(&format!(
                "# HELP gabion_job_{name} {help}\n# TYPE gabion_job_{name} gauge\n{}",
                lines.concat()
            ));
        }
    }
    text
}
