//! POSIX ACLs, as far as permission bits depend on them.

use super::node::Node;
use crate::format::entry::Metadata;

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
/// The version of the only encoding there is.
const VERSION: [u8; 4] = [2, 0, 0, 0];
const OWNING_GROUP: u16 = 0x04;

/// The permission bits for an item that may have to do without its ACL. With an ACL the middle
/// three bits are the most that any named user or group may do; without it they would all go to
/// the owning group, which may have had less.
pub(super) fn mode_without_acl(node: &Node<'_>, meta: &Metadata) -> u16 {
    let mode = meta.mode & 0o7777;
    let Some(recorded) = meta.xattrs.iter().find(|xattr| *xattr.name == *ACCESS_ACL) else {
        return mode;
    };
    if node.xattr(ACCESS_ACL).is_ok_and(|value| *value == *recorded.value) {
        return mode;
    }
    // What cannot be understood gives the group nothing.
    let group = owning_group_bits(&recorded.value).unwrap_or(0);
    mode & !0o070 | mode & (group << 3)
}

/// What the owning group may do, as three bits.
fn owning_group_bits(acl: &[u8]) -> Option<u16> {
    let entries = acl.strip_prefix(&VERSION)?;
    // Of the eight bytes of an entry the first two are its tag, the next two the permissions.
    entries.chunks_exact(8).find_map(|entry| {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        (tag == OWNING_GROUP).then(|| u16::from_le_bytes([entry[2], entry[3]]) & 0o7)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owning_group_is_found_among_the_others() {
        let mut acl = VERSION.to_vec();
        for (tag, bits) in [(0x01u16, 7u16), (0x02, 6), (OWNING_GROUP, 4), (0x10, 6), (0x20, 0)] {
            acl.extend(tag.to_le_bytes());
            acl.extend(bits.to_le_bytes());
            acl.extend([0xff; 4]);
        }
        assert_eq!(owning_group_bits(&acl), Some(4));
        assert_eq!(owning_group_bits(&acl[..20]), None);
        assert_eq!(owning_group_bits(b""), None);
        acl[0] = 3;
        assert_eq!(owning_group_bits(&acl), None);
    }
}
