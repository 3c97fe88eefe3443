//! The offset over acknowledgements in any order, and what a crash leaves of it.

use super::*;
use crate::logs::identity::Namer;
use proptest::prelude::*;

fn life(number: u64) -> Life {
    Life { inode: Inode { device: 1, number }, born_ns: 7, generation: 0 }
}

fn page(number: u64) -> Page {
    let life = life(number);
    let head = Print::of(b"");
    let path = PathBuf::from("/logs/a.log");
    Page {
        inode: life.inode,
        life,
        born_ns: Some(7),
        path,
        head_bytes: 0,
        head,
        offset: 0,
        last: None,
        newest: None,
    }
}

fn read(book: &Book, number: u64, start: u64, end: u64) -> Mark {
    let key = life(number).key();
    let id = Namer::new("host", key).id(start, b"line");
    let line = LastLine { start, bytes: 4, id };
    book.read(key, Pending { line, end, read_at: Duration::from_secs(start), done: None })
}

#[test]
fn the_offset_never_passes_a_line_that_is_not_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(&folder.path().join("book.json")).unwrap();
    book.begin(page(1));
    let marks = [read(&book, 1, 0, 5), read(&book, 1, 5, 10), read(&book, 1, 10, 15)];
    book.acknowledge([[marks[2]], [marks[1]]]);
    assert_eq!(book.pages()[0].offset, 0);
    assert_eq!(book.oldest(), Some(Duration::ZERO));
    book.acknowledge([[marks[0]], [marks[0]]]);
    assert_eq!(book.pages()[0].offset, 15);
    assert_eq!(book.oldest(), None);
}

#[test]
fn the_offset_never_stands_within_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(&folder.path().join("book.json")).unwrap();
    book.begin(page(1));
    let marks: Vec<_> = (0..4).map(|line| read(&book, 1, line * 5, line * 5 + 5)).collect();
    book.acknowledge([vec![marks[0]], vec![marks[1], marks[3]]]);
    assert_eq!(book.pages()[0].offset, 5, "the third line is not acknowledged");
    book.acknowledge([[marks[2]]]);
    assert_eq!(book.pages()[0].offset, 20);
}

#[test]
fn what_was_saved_is_read_again_and_what_was_not_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.json");
    let book = Book::open(&path).unwrap();
    book.begin(page(1));
    let first = read(&book, 1, 0, 5);
    let second = read(&book, 1, 5, 10);
    book.acknowledge([[first]]);
    book.save().unwrap();
    book.acknowledge([[second]]);
    let again = Book::open(&path).unwrap();
    assert_eq!(again.pages().iter().map(|page| page.offset).collect::<Vec<_>>(), [5]);
    assert!(again.knows(life(1).key()) && !again.knows(life(2).key()));
}

#[test]
fn a_closed_life_is_forgotten_once_all_its_lines_are_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(&folder.path().join("book.json")).unwrap();
    book.begin(page(1));
    let mark = read(&book, 1, 0, 5);
    book.close(life(1).key());
    assert!(book.knows(life(1).key()));
    book.acknowledge([[mark]]);
    assert!(!book.knows(life(1).key()));
}

#[test]
fn a_torn_checkpoint_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.json");
    fs::write(&path, b"{\"version\":1,\"fil").unwrap();
    assert!(Book::open(&path).unwrap().pages().is_empty());
    assert!(path.with_extension("corrupt").exists() && !path.exists());
}

proptest! {
    #[test]
    fn any_order_of_acknowledgements_ends_at_the_same_offset(order in Just((0..20usize).collect::<Vec<_>>()).prop_shuffle()) {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::open(&folder.path().join("book.json")).unwrap();
        book.begin(page(1));
        let marks: Vec<Mark> = (0..20).map(|n| read(&book, 1, n * 5, n * 5 + 5)).collect();
        let mut done = [false; 20];
        for index in order {
            book.acknowledge([[marks[index]]]);
            done[index] = true;
            let whole = done.iter().take_while(|done| **done).count() as u64;
            prop_assert_eq!(book.pages()[0].offset, whole * 5);
        }
    }
}
