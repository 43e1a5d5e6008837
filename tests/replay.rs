//! From what was recorded the same follows again.

#![expect(clippy::unwrap_used, reason = "a test: what is wrong stops it")]

mod world;

use std::path::{Path, PathBuf};
use std::process::Command;

use ovn_bgpd::desired::{self, Options, Scope};
use ovn_bgpd::nb::View;
use ovn_bgpd::ovsdb::value::Database;
use ovn_bgpd::record::{self, Effects, Entry, Line, Replay, Told};
use proptest::collection::vec;
use proptest::prelude::*;
use world::{Change, apply, base, change, facts};

fn text(entry: Entry) -> String {
    serde_json::to_string(&Line { at: 1.5, entry }).unwrap()
}

/// What the daemon would record of these batches: it keeps its state up to date piece by piece.
fn recording(batches: &[Vec<Change>], options: &Options) -> Vec<String> {
    let facts = facts();
    let mut lines = vec![text(Entry::Options(options.clone())), text(Entry::Facts(Box::new(facts.clone())))];
    let (mut database, mut view) = (Database::new(), View::focused(facts.chassis.clone()));
    let mut kept = desired::compute(&view, &facts, options);
    let (mut scope, mut told) = (Scope::new(&view, &facts), Told::default());
    for batch in std::iter::once(&base()).chain(batches) {
        let changed: Vec<_> = batch.iter().map(|change| apply(&mut database, change, 0)).collect();
        lines.push(text(Entry::Rows(record::rows(&database, changed.iter().copied()))));
        let applied = view.apply(&database, changed);
        if desired::update(&mut kept, &view, &facts, options, &scope, &applied.touched).is_none() {
            kept = desired::compute(&view, &facts, options);
        }
        scope = Scope::new(&view, &facts);
        lines.push(text(Entry::Effects(told.effects(&kept))));
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_same_follows_from_the_same(batches in vec(vec(change(20), 1..4), 1..12), tenants in any::<bool>()) {
        let options = Options { expose_tenant_networks: tenants, ..Options::default() };
        let mut replay = Replay::default();
        let mut effects = 0;
        for line in recording(&batches, &options) {
            if let Some((recorded, follows)) = replay.line(&line).unwrap() {
                prop_assert_eq!(recorded.entry, Entry::Effects(follows.clone()));
                effects += usize::from(follows != Effects::default());
            }
        }
        prop_assert!(effects > 0);
    }
}

fn replay(file: &Path) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ovn-bgpd")).arg("replay").arg(file).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Recordings of the daemon on a real vswitch and a real Northbound database. `UPDATE=1` writes their effects anew.
#[test]
fn recordings_of_real_hosts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let recorded = std::fs::read_to_string(&file).unwrap();
        let (code, printed, said) = replay(&file);
        if std::env::var_os("UPDATE").is_some() {
            let mut effects = printed.lines();
            let new =
                recorded.lines().map(|line| if line.contains("\"effects\"") { effects.next().unwrap() } else { line });
            std::fs::write(&file, new.collect::<Vec<_>>().join("\n") + "\n").unwrap();
            continue;
        }
        assert_eq!((code, &*said), (Some(0), ""), "{}", file.display());
        let effects: Vec<&str> = recorded.lines().filter(|line| line.contains("\"effects\"")).collect();
        assert_eq!(printed.lines().collect::<Vec<_>>()[..effects.len()], effects[..]);

        // Another input: something else follows, and that is said with the line.
        let scratch = tempfile::tempdir().unwrap();
        let other = scratch.path().join("other.jsonl");
        std::fs::write(&other, recorded.replace("\"requested-chassis\",\"me\"", "\"requested-chassis\",\"you\""))
            .unwrap();
        let (code, _, said) = replay(&other);
        assert!(code == Some(1) && said.contains("something else follows now"), "{code:?} {said}");
        std::fs::write(&other, format!("{recorded}{{}}\n")).unwrap();
        let (code, _, said) = replay(&other);
        assert!(code != Some(0) && said.contains("not a line of a recording"), "{code:?} {said}");
    }
}
