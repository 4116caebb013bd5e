//! How values look: for people short and aligned, for programs complete and stable.

pub(crate) mod html;
pub(crate) mod names;
pub(crate) mod plot;
pub(crate) mod records;
pub(crate) mod table;
pub(crate) mod values;
