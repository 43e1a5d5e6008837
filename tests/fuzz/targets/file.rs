//! Database files and dumps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovn_bgpd::nb::View;
use ovn_bgpd::ovsdb::file;

const SCHEMA: &str = r#"{"name":"db","version":"1.0.0","tables":{"Logical_Switch_Port":{"columns":{"name":{"type":"string"},
"addresses":{"type":{"key":"string","min":0,"max":"unlimited"}},"up":{"type":{"key":"boolean","min":0,"max":1}},
"external_ids":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}}}}}}"#;

fuzz_target!(|data: &[u8]| {
    // As it is; and as the transactions of a sound file, one a line.
    let _ = file::parse(data);
    let mut log = format!("OVSDB JSON {} {}\n{SCHEMA}", SCHEMA.len(), "0".repeat(40)).into_bytes();
    for record in data.split(|byte| *byte == b'\n') {
        log.extend(format!("OVSDB JSON {} {}\n", record.len(), "0".repeat(40)).bytes());
        log.extend(record);
    }
    if let Ok(database) = file::parse(&log) {
        let _ = View::new(&database);
    }
});
