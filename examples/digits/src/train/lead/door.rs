//! Where followers come in: a loopback port, a short handshake, and a bounded row of those who wait for the next step.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::member::Member;
use crate::train::wire::{self, Link, Message};

/// A follower says who it is at once; anyone else is not waited for.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(2);
/// Handshakes at once, and followers that may wait for the next step.
const WAITING_MAX: usize = 16;
/// Wait after an accept that failed, such as for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A port that is listened on while nobody is let in yet.
#[derive(Debug)]
pub(super) struct Opened {
    listener: TcpListener,
}

/// The open door. Dropped, it closes.
#[derive(Debug)]
pub(super) struct Door {
    waiting: mpsc::Receiver<Link>,
    _task: JoinSet<()>,
    admitted: u64,
}

impl Door {
    pub(super) async fn open() -> io::Result<(Opened, u16)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        Ok((Opened { listener }, port))
    }

    /// The next follower that waits, if one does.
    pub(super) fn next(&mut self) -> Option<Member> {
        let link = self.waiting.try_recv().ok()?;
        self.admitted += 1;
        Some(Member::new(link, self.admitted))
    }
}

impl Opened {
    /// Lets in those who name `term`.
    pub(super) fn admit(self, term: u64) -> Door {
        let (joined, waiting) = mpsc::channel(WAITING_MAX);
        let mut task = JoinSet::new();
        task.spawn(accept(self.listener, term, joined));
        Door { waiting, _task: task, admitted: 0 }
    }
}

async fn accept(listener: TcpListener, term: u64, joined: mpsc::Sender<Link>) {
    let mut handshakes = JoinSet::new();
    loop {
        if handshakes.len() >= WAITING_MAX {
            handshakes.join_next().await;
        }
        while handshakes.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => drop(handshakes.spawn(handshake(stream, term, joined.clone()))),
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}

async fn handshake(stream: TcpStream, term: u64, joined: mpsc::Sender<Link>) {
    let mut link = wire::link(stream);
    let said = timeout(HANDSHAKE_WAIT, wire::read(&mut link)).await;
    if matches!(said, Ok(Ok(Message::Join { term: named })) if named == term) {
        // It fails only when the leader is leaving; the follower sees the connection close.
        drop(joined.send(link).await);
    }
}
