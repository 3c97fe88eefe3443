//! Bytes moved by network interfaces: `/proc/net/dev`, those that lead off the machine.

use std::collections::BTreeMap;

/// Bytes received and sent since the interface came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Received.
    pub received_bytes: u64,
    /// Sent.
    pub sent_bytes: u64,
}

/// Interfaces that stay on the machine, or lead to one container each: their bytes pass a real interface once more, or none.
const INNER: [&str; 12] = [
    "lo",
    "veth",
    "cali",
    "lxc",
    "tap",
    "dummy",
    "docker",
    "ifb",
    "virbr",
    "cni",
    "kube-ipvs",
    "nodelocaldns",
];

/// Bytes moved by each interface that leads off the machine.
#[must_use]
pub fn parse(text: &str) -> BTreeMap<String, Moved> {
    text.lines().filter_map(line).filter(|(name, _)| !is_inner(name)).collect()
}

fn is_inner(name: &str) -> bool {
    name == INNER[0] || INNER[1..].iter().any(|prefix| name.starts_with(prefix))
}

/// `name: received packets errs drop fifo frame compressed multicast SENT …`; old kernels put no space after the colon.
fn line(line: &str) -> Option<(String, Moved)> {
    // An alias such as `eth0:1` holds a colon of its own: the last one ends the name.
    let (name, numbers) = line.rsplit_once(':')?;
    let mut words = numbers.split_ascii_whitespace();
    Some((
        name.trim().to_owned(),
        Moved { received_bytes: words.next()?.parse().ok()?, sent_bytes: words.nth(7)?.parse().ok()? },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 5000       10    0    0    0     0          0         0     5000      10    0    0    0     0       0          0
  eth0: 1296054    4000    0    0    0     0          0         0   730123    3500    0    0    0     0       0          0
eth1:77 1 0 0 0 0 0 0 88 1 0 0 0 0 0 0
eth0:1: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0
vethab12: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
 ib0: many 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
";

    #[test]
    fn keeps_what_leads_off_the_machine() {
        let interfaces = parse(TEXT);
        assert_eq!(interfaces.keys().collect::<Vec<_>>(), ["eth0", "eth0:1", "eth1"]);
        assert_eq!(interfaces["eth0"], Moved { received_bytes: 1_296_054, sent_bytes: 730_123 });
        assert_eq!(interfaces["eth1"], Moved { received_bytes: 77, sent_bytes: 88 });
    }
}
