//! What the kernel counts of TCP signatures (RFC 2385, RFC 5925): all that shows of a password on one side only, because such segments
//! are dropped before anybody sees a connection.

/// Counters of segments dropped for their signature, by their names in `/proc/net/netstat`: missing, not wanted, wrong.
const DROPPED: [&str; 6] =
    ["TCPMD5NotFound", "TCPMD5Unexpected", "TCPMD5Failure", "TCPAORequired", "TCPAOBad", "TCPAOKeyNotFound"];

/// How many segments the kernel has dropped for their signature since it counts, in the network namespace of the calling thread.
pub(super) fn dropped() -> u64 {
    std::fs::read_to_string("/proc/thread-self/net/netstat").map_or(0, |text| sum(&text))
}

/// Names and values stand in pairs of lines that begin with the same word.
fn sum(netstat: &str) -> u64 {
    let lines: Vec<&str> = netstat.lines().collect();
    let pairs = lines.chunks_exact(2).filter_map(|pair| <[&str; 2]>::try_from(pair).ok());
    let counters =
        pairs.flat_map(|[names, values]| names.split_ascii_whitespace().zip(values.split_ascii_whitespace()));
    counters.filter(|(name, _)| DROPPED.contains(name)).filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_signatures_are_added_up() {
        let text = "TcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPAOGood\n\
                    TcpExt: 7 1 20 300 9\n\
                    IpExt: InNoRoutes TCPAOBad\nIpExt: 5 4000\n";
        assert_eq!(sum(text), 4321);
        assert_eq!(sum(""), 0);
        assert_eq!(sum("TcpExt: TCPMD5NotFound\n"), 0, "cut short");
        assert_eq!(sum("TcpExt: TCPMD5NotFound\nTcpExt: many\n"), 0);
    }
}
