//! What `gabion check --parity` and `gabion repair --parity` share: they need no key.

use gabion::ops::scrub::{ScrubOptions, ScrubSummary, make_parity_again, scrub};
use serde::Serialize;

use crate::errors::{Exit, Failure};
use crate::output::{one_json, one_line};
use crate::process;
use crate::render::values::{counted, size};
use crate::session::Session;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type", rename = "summary")]
struct Line {
    packs: u64,
    bytes_read: u64,
    damaged: u64,
    rebuilt: u64,
    parity_damaged: u64,
    parity_rebuilt: u64,
}

/// Looks at the shards of all packs and of their parity, and puts right what can be if `mend`.
pub(crate) fn run(session: &Session, mend: bool) -> Result<Exit, Failure> {
    process::private_files();
    let interrupted = session.interruption()?;
    let storage = session.open_storage()?;
    let options = ScrubOptions { mend, only: None, threads: session.threads(), interrupted };
    let mut summary = scrub(&*storage, &*session.observer(), &options)?;
    if mend && summary.without_parity > 0 && session.has_key() {
        let opened = session.open()?;
        let (made, _) = make_parity_again(&opened.repository)?;
        summary.parity_rebuilt += made;
        summary.without_parity = summary.without_parity.saturating_sub(made);
    }
    session.console.finish();
    print(session, &summary, mend)?;
    Ok(if summary.is_sound() { Exit::Done } else { Exit::Damage })
}

fn print(session: &Session, summary: &ScrubSummary, mend: bool) -> Result<(), Failure> {
    if mend && summary.without_parity > 0 && !session.has_key() {
        let packs = counted(summary.without_parity, "pack", "packs");
        session.console.notice(&format!(
            "the parity of {packs} can only be made again with the passphrase or key file: run \
             this again with it"
        ));
    }
    let &ScrubSummary { packs, bytes, damaged, rebuilt, parity_damaged, parity_rebuilt, .. } =
        summary;
    if session.json() {
        let bytes_read = bytes;
        return one_json(&Line {
            packs,
            bytes_read,
            damaged,
            rebuilt,
            parity_damaged,
            parity_rebuilt,
        });
    }
    if session.quiet() {
        return Ok(());
    }
    let found = match damaged + parity_damaged {
        0 => "no damage".to_owned(),
        _ if mend => format!(
            "{rebuilt} of {} rebuilt, {parity_rebuilt} of {} made again",
            counted(damaged, "damaged pack", "damaged packs"),
            counted(parity_damaged, "parity object", "parity objects"),
        ),
        _ => format!(
            "{}, {}",
            counted(damaged, "DAMAGED PACK", "DAMAGED PACKS"),
            counted(parity_damaged, "DAMAGED PARITY OBJECT", "DAMAGED PARITY OBJECTS"),
        ),
    };
    let packs = counted(packs, "pack", "packs");
    one_line(format!("read {packs} and their parity, {}: {found}", size(bytes)))
}
