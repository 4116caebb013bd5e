//! Tests of taking over ranges: the pages are those of building anew.

use std::collections::BTreeSet;

use super::tests::{Map, arbitrary_map, build, map, repository_with_small_pages};
use super::*;
use crate::repo::Writer;
use proptest::prelude::*;

fn top(key: &[u8]) -> &[u8] {
    key.split(|&byte| byte == 0).next().unwrap_or(key)
}

/// Builds `new` from the tree `old`, of which all top folders that are alike are taken over
/// without a look; how many pages were taken over at each height.
fn merge_ranges(repository: &Arc<Repository>, old: &Map, new: &Map) -> (ChunkId, Vec<usize>) {
    let parent = build(repository, old);
    let writer = Writer::new(repository, 1);
    let mut builder = TreeBuilder::new(&writer).unwrap();
    let mut cursor = PageReader::new(repository).cursor(parent);
    let mut heights = vec![0; 4];
    let tops: BTreeSet<&[u8]> = old.keys().chain(new.keys()).map(|key| top(key)).collect();
    for folder in tops {
        let of = |map: &Map| -> Vec<_> {
            map.iter().filter(|(key, _)| top(key) == folder).map(|(_, e)| e.clone()).collect()
        };
        let (before, after) = (of(old), of(new));
        while let Some(taken) = cursor.take(Bound::Within(folder)).unwrap() {
            match taken {
                _ if before != after => {}
                Taken::Page(page, height) => {
                    heights[usize::from(height)] += 1;
                    builder.push_page(&page, height).unwrap();
                }
                Taken::Entries(page, mut range) => {
                    range.try_for_each(|at| builder.push_same(&page, at)).unwrap();
                }
            }
        }
        if before != after {
            after.into_iter().for_each(|entry| builder.push(entry).unwrap());
        }
    }
    let (root, totals) = builder.finish().unwrap();
    assert_eq!(totals.entries, new.len() as u64);
    writer.checkpoint().unwrap();
    (root, heights)
}

#[test]
fn whole_pages_of_several_heights_are_taken_over() {
    let repository = repository_with_small_pages();
    let paths = |version: u64| {
        (0..3).flat_map(move |folder| {
            let version = if folder == 1 { version } else { 1 };
            (0..4000).map(move |n| (format!("d{folder}/f{n:05}"), version))
        })
    };
    let (old, new) = (map(paths(1)), map(paths(2)));
    let (root, heights) = merge_ranges(&repository, &old, &new);
    assert_eq!(root, build(&repository, &new));
    assert!(heights[0] > 0 && heights[1] > 0, "{heights:?}");
    let few = heights.iter().sum::<usize>();
    assert!(few < 200, "8000 entries in {few} pieces");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn taking_over_ranges_equals_building_anew(
        old in arbitrary_map(), other in arbitrary_map(), keep in 0usize..=100,
    ) {
        let tops: BTreeSet<&[u8]> = old.keys().chain(other.keys()).map(|key| top(key)).collect();
        let kept = tops.len() * keep / 100;
        let kept: BTreeSet<&[u8]> = tops.into_iter().take(kept).collect();
        let new: Map = old.iter().filter(|(key, _)| kept.contains(top(key)))
            .chain(other.iter().filter(|(key, _)| !kept.contains(top(key))))
            .map(|(key, entry)| (key.clone(), entry.clone())).collect();
        let repository = repository_with_small_pages();
        prop_assert_eq!(merge_ranges(&repository, &old, &new).0, build(&repository, &new));
    }
}
