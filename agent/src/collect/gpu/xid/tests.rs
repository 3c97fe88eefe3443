//! The catalogue, lines as kernels write them, and the book.

use super::*;
use proptest::prelude::*;

const PCI: PciId = PciId { domain: 0, bus: 0x3b, device: 0 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

#[test]
fn the_catalogue_reads_and_knows_the_usual_codes() {
    let codes = |class| -> Vec<u32> {
        catalogue().values().filter(|entry| entry.class == class).map(|entry| entry.code).collect()
    };
    for code in [13, 31, 43, 45, 68, 94, 109] {
        assert!(codes(XidClass::Application).contains(&code), "{code}");
    }
    for code in [48, 62, 64, 74, 79, 95, 119, 120] {
        assert!(codes(XidClass::Reset).contains(&code), "{code}");
    }
    assert_eq!(Xid::of(63).class(), XidClass::Hardware);
    assert_eq!(Xid::of(9999).class(), XidClass::Other);
    assert!(catalogue().values().all(|entry| !entry.text.is_empty()));
}

#[test]
fn lines_of_the_kernel_log_are_read() {
    let plain = |code| Some((PCI, Xid::of(code)));
    let nvlink =
        |code, fatal, link| Some((PCI, Xid { fatal: Some(fatal), link: Some(link), ..Xid::of(code) }));
    for (line, wanted) in [
        (
            "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
            plain(79),
        ),
        ("[  12.5] NVRM: Xid (0000:3b:00): 14, Channel 00000001", plain(14)),
        ("NVRM: Xid (PCI:0000:3B:00.0): 31, pid=1234, name=python3, Ch 00000010, MMU Fault", plain(31)),
        (
            "NVRM: Xid (PCI:0000:3b:00 GPU-I:05): 94, pid=1, Contained: SM",
            Some((PCI, Xid { instance: Some(5), ..Xid::of(94) })),
        ),
        (
            "NVRM: Xid (PCI:0000:3b:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 (0x004505c6 0x00000000)",
            nvlink(149, true, 8),
        ),
        (
            "NVRM: Xid (PCI:0000:3b:00): 145, RLW_REMAP Nonfatal XC0 i0 Link 00 (0x00000004 0x80000000)",
            nvlink(145, false, 0),
        ),
        ("NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.", plain(79)),
        (
            "NVRM: GPU at PCI:0000:3b:00: GPU-3f8d, it has fallen off the bus and is not responding.",
            plain(79),
        ),
        ("NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.95.05", None),
        ("NVRM: Xid (PCI:0000:3b:00): many, what", None),
        ("NVRM: Xid (PCI:::): 79, what", None),
        ("eth0: link has fallen off the bus 0000:3b:00.0", None),
        ("", None),
    ] {
        assert_eq!(kernel_line(line), wanted, "{line}");
    }
}

#[test]
fn what_nvlink_says_of_itself_decides_its_class() {
    let of = |fatal| Xid { fatal, ..Xid::of(149) }.class();
    assert_eq!((of(Some(true)), of(Some(false))), (XidClass::Reset, XidClass::Hardware));
}

#[test]
fn a_place_on_the_bus_reads_in_every_way_that_it_is_written() {
    for text in ["0000:3b:00", "0000:3B:00.0", "00000000:3B:00.0", " 0000:3b:00.0\n"] {
        assert_eq!(text.parse(), Ok(PCI), "{text}");
    }
    assert_eq!(PCI.to_string(), "00000000:3B:00.0");
    for text in ["", "0000", "0000:3b", "0000:3b:00:1", "x:3b:00", "0000:3bb:00"] {
        assert_eq!(text.parse::<PciId>(), Err(PciIdError), "{text}");
    }
}

#[test]
fn an_error_that_both_tell_of_counts_once() {
    let mut book = XidBook::default();
    book.note_kernel(PCI, Xid::of(79), at(5));
    assert_eq!(book.counts()[0].uuid, None, "nobody has said yet which GPU is there");
    book.learn("GPU-a", PCI);
    book.note_driver("GPU-a", Xid::of(79), at(6));
    book.note_driver("GPU-a", Xid::of(31), at(9));
    book.note_driver("GPU-b", Xid::of(31), at(7));
    let counts: Vec<_> =
        book.counts().into_iter().map(|c| (c.uuid.unwrap(), c.code, c.count, c.last)).collect();
    assert_eq!(
        counts,
        [
            ("GPU-a".to_owned(), 31, 1, at(9)),
            ("GPU-a".to_owned(), 79, 1, at(6)),
            ("GPU-b".to_owned(), 31, 1, at(7)),
        ]
    );
    assert_eq!(book.last_of("GPU-a").map(|last| last.code), Some(31));
    assert_eq!(book.last_of("GPU-c"), None);
    assert_eq!(book.recent().len(), 4);
}

#[test]
fn the_book_is_bounded() {
    let mut book = XidBook::default();
    for code in 0..3000 {
        book.note_kernel(PCI, Xid::of(code), at(i64::from(code)));
    }
    assert_eq!((book.counts().len(), book.recent().len()), (COUNTS_MAX, RECENT_MAX));
    assert_eq!(book.recent().last().map(|event| event.xid.code), Some(2999));
}

proptest! {
    #[test]
    fn no_line_is_too_strange(line in "(NVRM: Xid \\(PCI:)?[ -~]{0,80}") {
        if let Some((pci, xid)) = kernel_line(&line) {
            prop_assert!(line.contains("NVRM"));
            prop_assert!(pci.to_string().parse() == Ok(pci) && xid.link.is_none_or(|_| xid.code >= 144));
        }
    }
}
