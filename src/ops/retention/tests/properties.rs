//! Properties of retention that hold for any snapshots and policies.

use proptest::prelude::*;

use super::*;

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let labels = (prop::bool::weighted(0.1), prop::bool::weighted(0.2), prop::bool::weighted(0.3));
    (any::<u64>(), 0..40_000i64, labels, prop::bool::weighted(0.2), 0..2u8).prop_map(
        |(id, minutes, (pinned, tagged, incomplete), forged, host)| {
            let mut one = honest(0, 1_790_000_000 + minutes * 977);
            one.snapshot.id.0[..8].copy_from_slice(&id.to_le_bytes());
            one.snapshot.id.0[15] = 0;
            one.snapshot.pinned = pinned;
            one.snapshot.problems = u64::from(incomplete);
            one.snapshot.host = host.to_string();
            if tagged {
                one.snapshot.tags.push("tag".to_owned());
            }
            if forged {
                one.stored.seconds += 10_000_000;
            }
            one
        },
    )
}

fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    prop::collection::vec(any_candidate(), 0..40).prop_map(|mut candidates| {
        for (number, candidate) in (0..).zip(&mut candidates) {
            candidate.snapshot.id.0[15] = number;
        }
        candidates
    })
}

fn any_span() -> impl Strategy<Value = Option<KeepSpan>> {
    let text = (0..3u8, 0..14u8, 0..40u8, 0..30u8)
        .prop_map(|(y, m, d, h)| format!("{y}y{m}m{d}d{h}h").parse().unwrap());
    prop::option::weighted(0.3, text)
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let count = || prop_oneof![2 => Just(0u64), 3 => 0..6u64];
    let counts = (count(), count(), count(), count(), count(), count());
    let spans = (any_span(), any_span(), any_span(), any_span(), any_span(), any_span());
    (counts, spans, any::<bool>()).prop_map(|(counts, spans, tags)| Policy {
        last: counts.0,
        hourly: counts.1,
        daily: counts.2,
        weekly: counts.3,
        monthly: counts.4,
        yearly: counts.5,
        within: spans.0,
        within_hourly: spans.1,
        within_daily: spans.2,
        within_weekly: spans.3,
        within_monthly: spans.4,
        within_yearly: spans.5,
        tags: if tags { vec!["tag".to_owned()] } else { Vec::new() },
    })
}

/// A policy that keeps something.
fn some_policy() -> impl Strategy<Value = Policy> {
    any_policy().prop_filter("it keeps nothing", |policy| !policy.is_empty())
}

/// The same policy with one rule that keeps more.
fn widened(mut policy: Policy, which: u8, by: u64) -> Policy {
    let years = |span: Option<KeepSpan>| match span {
        None => Some(format!("{}d", by + 1).parse().unwrap()),
        Some(span) => {
            let text = span.to_string();
            let longer = match text.split_once('y') {
                Some((years, rest)) => format!("{}y{rest}", years.parse::<u64>().unwrap() + by),
                None => format!("{by}y{text}"),
            };
            Some(longer.parse().unwrap())
        }
    };
    match which % 13 {
        0 => policy.last += by,
        1 => policy.hourly += by,
        2 => policy.daily += by,
        3 => policy.weekly += by,
        4 => policy.monthly += by,
        5 => policy.yearly += by,
        6 => policy.within = years(policy.within),
        7 => policy.within_hourly = years(policy.within_hourly),
        8 => policy.within_daily = years(policy.within_daily),
        9 => policy.within_weekly = years(policy.within_weekly),
        10 => policy.within_monthly = years(policy.within_monthly),
        11 => policy.within_yearly = years(policy.within_yearly),
        _ => policy.tags.push("tag".to_owned()),
    }
    policy
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn keeping_more_removes_no_more(
        candidates in any_candidates(),
        policy in some_policy(),
        which in any::<u8>(),
        by in 1..5u64,
    ) {
        let wider = widened(policy.clone(), which, by);
        prop_assert!(kept(&candidates, &policy).is_subset(&kept(&candidates, &wider)));
    }

    #[test]
    fn the_newest_complete_one_of_each_group_stays(
        candidates in any_candidates(),
        policy in some_policy(),
    ) {
        let counting = policy.rules().next().is_some();
        prop_assume!(counting);
        let kept = kept(&candidates, &policy);
        for host in ["0", "1"] {
            let of_group = candidates.iter().map(|one| &one.snapshot);
            let complete = of_group.filter(|one| one.host == host && one.problems == 0);
            if let Some(newest) = complete.max_by_key(|one| (one.time, one.id)) {
                prop_assert!(kept.contains(&newest.id));
            }
        }
    }

    #[test]
    fn false_times_remove_no_honest_one(
        candidates in any_candidates(),
        others in any_candidates(),
        policy in some_policy(),
    ) {
        let mut attacked = candidates.clone();
        for mut forged in others {
            forged.snapshot.id.0[14] = 1;
            forged.stored.seconds = forged.snapshot.time.seconds + 100_000;
            attacked.push(forged);
        }
        let believed = |one: &&Candidate| one.is_believed();
        let honest: BTreeSet<SnapshotId> =
            candidates.iter().filter(believed).map(|one| one.snapshot.id).collect();
        let before = kept(&candidates, &policy);
        let after = kept(&attacked, &policy);
        prop_assert!(before.intersection(&honest).eq(after.intersection(&honest)));
    }

    #[test]
    fn incomplete_ones_remove_no_complete_one(
        candidates in any_candidates(),
        others in any_candidates(),
        policy in some_policy(),
    ) {
        let mut more = candidates.clone();
        for mut incomplete in others {
            incomplete.snapshot.id.0[14] = 1;
            incomplete.snapshot.problems = 1;
            more.push(incomplete);
        }
        let is_complete = |one: &&Candidate| one.snapshot.problems == 0;
        let complete: BTreeSet<SnapshotId> =
            candidates.iter().filter(is_complete).map(|one| one.snapshot.id).collect();
        let before = kept(&candidates, &policy);
        let after = kept(&more, &policy);
        prop_assert!(before.intersection(&complete).eq(after.intersection(&complete)));
    }

    #[test]
    fn a_copy_that_claims_to_replace_removes_nothing(
        candidates in any_candidates(),
        policy in some_policy(),
        which in any::<prop::sample::Index>(),
        late in any::<bool>(),
    ) {
        prop_assume!(!candidates.is_empty());
        let mut copy = which.get(&candidates).clone();
        copy.snapshot.formerly = vec![copy.snapshot.id];
        copy.snapshot.id.0[14] = 1;
        copy.snapshot.pinned = false;
        copy.snapshot.tags.clear();
        if late {
            copy.stored.seconds += 1_000_000;
        }
        let mut more = candidates.clone();
        more.push(copy);
        // A late one is of the series whose times are not believed, and competes there.
        let safe = |one: &&Candidate| !late || one.is_believed();
        let safe: BTreeSet<SnapshotId> =
            candidates.iter().filter(safe).map(|one| one.snapshot.id).collect();
        let after = kept(&more, &policy);
        prop_assert!(kept(&candidates, &policy).intersection(&safe).all(|id| after.contains(id)));
    }

    #[test]
    fn order_does_not_matter(candidates in any_candidates(), policy in some_policy()) {
        let forward = judged(&candidates, &policy, &TimeZone::UTC);
        let mut turned = candidates;
        turned.reverse();
        let middle = turned.len() / 3;
        turned.rotate_left(middle);
        prop_assert_eq!(forward, judged(&turned, &policy, &TimeZone::UTC));
    }
}
