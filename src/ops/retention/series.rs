//! Judging one series: snapshots that compete for the slots of a policy.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::policy::Rule;
use super::{Period, Policy, Reason};
use crate::format::snapshot::{Moment, Snapshot};
use crate::ops::replaced;

/// A snapshot in the series, with the labels of the records that it replaces.
struct Member {
    at: Zoned,
    is_complete: bool,
    is_pinned: bool,
    tags: BTreeSet<String>,
}

/// The reasons for which each of `snapshots`, oldest first, is kept; none: it goes.
pub(super) fn judge(snapshots: &[&Snapshot], policy: &Policy, zone: &TimeZone) -> Vec<Vec<Reason>> {
    // A record that was replaced shares the fate of its successor.
    let successors = replaced(snapshots.iter().copied());
    let place: HashMap<_, _> = snapshots.iter().enumerate().map(|(at, s)| (s.id, at)).collect();
    let fate = |at: usize| successors.get(&snapshots[at].id).map_or(at, |id| place[id]);
    let mut members: BTreeMap<usize, Member> = BTreeMap::new();
    for (at, snapshot) in snapshots.iter().enumerate() {
        let member = members.entry(fate(at)).or_insert_with(|| Member {
            at: zoned(snapshot.time, zone),
            is_complete: snapshot.is_complete(),
            is_pinned: false,
            tags: BTreeSet::new(),
        });
        member.is_pinned |= snapshot.pinned;
        member.tags.extend(snapshot.tags.iter().cloned());
    }
    let mut reasons: Vec<Vec<Reason>> = vec![Vec::new(); snapshots.len()];
    for (at, member) in &members {
        if member.is_pinned {
            reasons[*at].push(Reason::Pinned);
        }
        let kept = policy.tags.iter().filter(|tag| member.tags.contains(*tag)).cloned();
        reasons[*at].extend(kept.map(Reason::Tag));
    }
    let newest_first: Vec<(usize, &Member)> =
        members.iter().rev().map(|(at, member)| (*at, member)).filter(|m| !m.1.is_pinned).collect();
    for (at, reason) in counted(&newest_first, policy) {
        reasons[at].push(reason);
    }
    for reasons in &mut reasons {
        reasons.sort();
        reasons.dedup();
    }
    (0..snapshots.len()).map(|at| reasons[fate(at)].clone()).collect()
}

/// What the counting rules keep of the series, given newest first and without what is pinned.
fn counted(series: &[(usize, &Member)], policy: &Policy) -> Vec<(usize, Reason)> {
    let is_complete = |(_, member): &&(usize, &Member)| member.is_complete;
    let complete: Vec<(usize, &Member)> = series.iter().filter(is_complete).copied().collect();
    let known: HashSet<usize> = complete.iter().map(|(at, _)| *at).collect();
    let mut found = Vec::new();
    for rule in policy.rules() {
        found.extend(apply(rule, &complete));
        let together = apply(rule, series);
        found.extend(together.into_iter().filter(|(at, _)| !known.contains(at)));
    }
    if let Some((at, newest)) = series.first()
        && !newest.is_complete
    {
        found.push((*at, Reason::NewestIncomplete));
    }
    found
}

fn apply(rule: Rule, series: &[(usize, &Member)]) -> Vec<(usize, Reason)> {
    match rule {
        Rule::Last(count) => {
            let numbered = series.iter().zip(1..=count);
            numbered.map(|((at, _), n)| (*at, Reason::Last(n))).collect()
        }
        Rule::Within(span) => {
            let oldest = series.first().and_then(|(_, newest)| span.before(&newest.at));
            let within = series.iter().filter(|(_, member)| is_within(&member.at, &oldest));
            within.map(|(at, _)| (*at, Reason::Within(span))).collect()
        }
        Rule::Every(period, count) => {
            let chosen = of_each(period, series).into_iter().zip(0..count);
            chosen.map(|((at, name, _), _)| (at, Reason::Of(period, name))).collect()
        }
        Rule::EveryWithin(period, span) => {
            let oldest = series.first().and_then(|(_, newest)| span.before(&newest.at));
            let chosen = of_each(period, series).into_iter();
            chosen
                .filter(|(_, _, time)| is_within(time, &oldest))
                .map(|(at, name, _)| (at, Reason::OfWithin(period, name, span)))
                .collect()
        }
    }
}

/// `oldest` is nothing when it would be before all calendars.
fn is_within(time: &Zoned, oldest: &Option<Zoned>) -> bool {
    oldest.as_ref().is_none_or(|oldest| time >= oldest)
}

/// The periods that have a snapshot, newest first, and the one that stands for each: the newest
/// complete one, or where none is complete the newest. Chosen from the whole series, whatever a
/// duration cuts off: else a longer duration could let go what a shorter one keeps.
fn of_each<'m>(period: Period, series: &[(usize, &'m Member)]) -> Vec<(usize, String, &'m Zoned)> {
    let mut chosen: Vec<(usize, String, &Member)> = Vec::new();
    // Not only the last one is compared with: where the clock is put back over midnight, a day is
    // left and entered again.
    let mut known: HashMap<String, usize> = HashMap::new();
    for (at, member) in series {
        let name = period.label(&member.at);
        match known.get(&name) {
            None => {
                known.insert(name.clone(), chosen.len());
                chosen.push((*at, name, member));
            }
            Some(&slot) if member.is_complete && !chosen[slot].2.is_complete => {
                chosen[slot] = (*at, name, member);
            }
            Some(_) => {}
        }
    }
    chosen.into_iter().map(|(at, name, member)| (at, name, &member.at)).collect()
}

/// A time in the zone; one beyond all calendars is the nearest within.
fn zoned(time: Moment, zone: &TimeZone) -> Zoned {
    let nanos = i32::try_from(time.nanos.min(999_999_999)).unwrap_or(0);
    let seconds = time.seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    let instant = Timestamp::new(seconds, nanos).or_else(|_| Timestamp::from_second(seconds));
    instant.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone())
}
