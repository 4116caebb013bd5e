//! Which packs are worth being stored again.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::PruneOptions;
use crate::id::PackId;
use crate::repo::PackClass;

/// So many small packs of about the same size are put together.
const SMALL_PACKS: usize = 8;

/// A pack of which something is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) id: PackId,
    pub(super) class: PackClass,
    /// Its stored bytes.
    pub(super) len: u64,
    /// What of that is not dead, about: of a block, the share of the plain bytes that are needed.
    pub(super) live: u64,
}

impl Usage {
    fn unused(&self) -> u64 {
        self.len.saturating_sub(self.live)
    }

    /// The worst pack first: the one with the largest dead share.
    fn worse(&self, other: &Self) -> Ordering {
        let own = u128::from(self.unused()) * u128::from(other.len);
        let its = u128::from(other.unused()) * u128::from(self.len);
        its.cmp(&own).then(self.id.cmp(&other.id))
    }
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Packs that go as they are.
    pub(super) dead: BTreeSet<PackId>,
    /// Packs of which something is stored again, in this order.
    pub(super) rewrite: Vec<Usage>,
    /// Dead bytes that stay in other packs.
    pub(super) unused_left: u64,
}

/// Chooses the packs with the largest dead share until what is left of dead bytes is within the
/// share allowed of the live ones; then small packs that can be put together. Packs of a few large
/// snapshots stay; those of many small ones become one, then that one and others like it, so that
/// each byte is moved a few times in all and the number of packs stays small.
pub(super) fn choose(
    dead: BTreeSet<PackId>,
    mut used: Vec<Usage>,
    options: &PruneOptions,
    pack_size: u64,
) -> Chosen {
    used.sort_by(Usage::worse);
    let live: u64 = used.iter().map(|usage| usage.live).sum();
    let mut unused: u64 = used.iter().map(Usage::unused).sum();
    let allowed = share(live, options.max_unused);
    let mut budget = options.max_repack.unwrap_or(u64::MAX);
    let mut chosen = Chosen { dead, ..Chosen::default() };
    let mut rest = Vec::new();
    for usage in used {
        // What a new pack costs beside its blocks must be less than what it gives back.
        let worth_it = usage.unused() > usage.len / 64 && usage.unused() > 4096;
        if unused > allowed && worth_it && usage.live <= budget {
            budget -= usage.live;
            unused -= usage.unused();
            chosen.rewrite.push(usage);
        } else {
            rest.push(usage);
        }
    }
    chosen.unused_left = unused;
    let mut tiers: BTreeMap<(usize, u32), Vec<Usage>> = BTreeMap::new();
    for usage in rest.into_iter().filter(|usage| usage.len < pack_size / 4) {
        // Sizes within a factor of four are alike.
        let tier = usage.len.max(1).ilog2() / 2;
        tiers.entry((usage.class as usize, tier)).or_default().push(usage);
    }
    for usage in tiers.into_values().filter(|tier| tier.len() >= SMALL_PACKS).flatten() {
        if usage.live <= budget {
            budget -= usage.live;
            chosen.rewrite.push(usage);
        }
    }
    chosen
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share that nothing depends on exactly"
)]
fn share(bytes: u64, share: f64) -> u64 {
    (bytes as f64 * share.max(0.0)) as u64
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::*;

    fn pack(len: u64, live: u64) -> Usage {
        Usage { id: PackId::random(), class: PackClass::Content, len, live }
    }

    #[test]
    fn the_worst_packs_go_first_and_only_as_many_as_needed() {
        let (bad, worse, good) =
            (pack(1 << 20, 800 << 10), pack(1 << 20, 1 << 10), pack(1 << 24, 1 << 24));
        let all = vec![good, bad, worse];
        let chosen = |max_unused: f64| {
            let options = PruneOptions { max_unused, ..options() };
            choose(BTreeSet::new(), all.clone(), &options, 1 << 26)
        };
        assert_eq!(chosen(0.0).rewrite, [worse, bad]);
        assert_eq!(chosen(0.0).unused_left, 0);
        assert_eq!(chosen(0.05).rewrite, [worse], "the rest is within the share");
        assert_eq!(chosen(1.0).rewrite, []);
    }

    #[test]
    fn no_more_is_stored_again_than_allowed() {
        let packs: Vec<Usage> = (0..10).map(|_| pack(1 << 20, 1 << 19)).collect();
        let options = PruneOptions { max_unused: 0.0, max_repack: Some(3 << 19), ..options() };
        let chosen = choose(BTreeSet::new(), packs, &options, 1 << 26);
        assert_eq!(chosen.rewrite.len(), 3);
    }

    #[test]
    fn many_small_packs_become_one_and_few_stay() {
        let small = |count: usize| (0..count).map(|_| pack(70_000, 70_000)).collect::<Vec<_>>();
        let rewritten = |packs| choose(BTreeSet::new(), packs, &options(), 1 << 26).rewrite.len();
        assert_eq!(rewritten(small(SMALL_PACKS - 1)), 0);
        assert_eq!(rewritten(small(SMALL_PACKS)), SMALL_PACKS);
        let mut mixed = small(SMALL_PACKS - 1);
        mixed.push(pack(5_000_000, 5_000_000));
        assert_eq!(rewritten(mixed), 0, "sizes differ");
    }
}
