//! What a server over SFTP answers, cut into packets and looked at before the protocol's crate
//! parses them: that one takes memory for what a packet says about itself.
#![expect(clippy::big_endian_bytes, reason = "the protocol is")]

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// Longest packet in bytes, its length left out: as long as OpenSSH's own programs take.
pub(super) const MAX_PACKET: usize = 256 << 10;

/// Type and number of the request, which every answer begins with. The greeting is as long.
const MIN_PACKET: usize = 5;

/// The type of a packet with bytes of a file.
const DATA: u8 = 103;
/// The type of a packet with names.
const NAMES: u8 = 104;
/// Least bytes of a name: two lengths and the word that says which facts follow.
const MIN_NAME: usize = 12;

/// Packets of a server, handed on one after the other.
pub(super) struct Packets<R> {
    from: R,
    /// The current packet with its length in front.
    packet: Vec<u8>,
    /// How much of it was handed on.
    at: usize,
}

impl<R: Read> Packets<R> {
    /// What comes out of `from`.
    pub(super) fn new(from: R) -> Self {
        Self { from, packet: Vec::new(), at: 0 }
    }

    /// Waits for the next packet; at the end of the stream there is an empty one.
    fn fetch(&mut self) -> io::Result<()> {
        self.at = 0;
        self.packet.clear();
        let mut prefix = [0; 4];
        let mut got = 0;
        while got < prefix.len() {
            match self.from.read(&mut prefix[got..]) {
                Ok(0) if got == 0 => return Ok(()),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let len = usize::try_from(u32::from_be_bytes(prefix)).map_err(io::Error::other)?;
        if !(MIN_PACKET..=MAX_PACKET).contains(&len) {
            // A login script that prints something is the usual reason.
            let start: String = prefix.iter().map(|byte| byte.escape_ascii().to_string()).collect();
            return Err(io::Error::other(format!("no packet of SFTP: it begins with \"{start}\"")));
        }
        self.packet.extend_from_slice(&prefix);
        self.packet.resize(prefix.len() + len, 0);
        self.from.read_exact(&mut self.packet[prefix.len()..])?;
        if !is_plausible(&self.packet[prefix.len()..]) {
            return Err(io::Error::other("a packet that says more than it holds"));
        }
        Ok(())
    }
}

/// Waits for bytes where it stands, so whoever polls it never has to come again.
impl<R: Read + Unpin> AsyncRead for Packets<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at == self.packet.len() {
            self.fetch()?;
        }
        let rest = &self.packet[self.at..];
        let len = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..len]);
        self.at += len;
        Poll::Ready(Ok(()))
    }
}

/// Whether the counts and lengths in a packet, its own length left out, agree with its length, as
/// far as somebody takes memory for them.
fn is_plausible(packet: &[u8]) -> bool {
    let word = packet.get(5..9).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
    let Some(word) = word.and_then(|word| usize::try_from(word).ok()) else {
        return !matches!(packet.first(), None | Some(&(DATA | NAMES)));
    };
    let rest = packet.len() - 9;
    match packet[0] {
        DATA => word == rest,
        NAMES => word <= rest / MIN_NAME,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is handed on of these packets, or why nothing is.
    fn handed_on(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut packets = Packets::new(bytes);
        let mut all = Vec::new();
        loop {
            packets.fetch().map_err(|error| error.to_string())?;
            if packets.packet.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&packets.packet);
        }
    }

    fn packet(body: &[u8]) -> Vec<u8> {
        let mut packet = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        packet.extend_from_slice(body);
        packet
    }

    fn with_word(kind: u8, word: u32, rest: usize) -> Vec<u8> {
        let mut body = vec![kind, 0, 0, 0, 1];
        body.extend_from_slice(&word.to_be_bytes());
        body.resize(9 + rest, 7);
        packet(&body)
    }

    #[test]
    fn honest_packets_are_handed_on_as_they_are() {
        let greeting = packet(&[2, 0, 0, 0, 3]);
        let data = with_word(DATA, 100, 100);
        let names = with_word(NAMES, 2, 24);
        let status = with_word(101, u32::MAX, 8);
        let longest = packet(&vec![101; MAX_PACKET]);
        let all = [greeting, data, names, status, longest].concat();
        assert_eq!(handed_on(&all).unwrap(), all);
        assert!(handed_on(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_packet_that_would_cost_memory_for_nothing_is_refused() {
        let bad = [
            with_word(NAMES, u32::MAX, 24),
            with_word(NAMES, 3, 35),
            with_word(DATA, 101, 100),
            with_word(DATA, 99, 100),
            packet(&[DATA, 0, 0, 0, 1]),
            packet(&[NAMES, 0, 0, 0, 1, 0, 0, 0]),
        ];
        for packet in bad {
            assert!(handed_on(&packet).unwrap_err().contains("says more"), "{packet:?}");
        }
        for len in [0, 4, MAX_PACKET + 1, 1 << 31] {
            let prefix = u32::try_from(len).unwrap().to_be_bytes();
            assert!(handed_on(&[&prefix[..], &[0; 16]].concat()).is_err(), "{len}");
        }
        let error = handed_on(b"Welcome to host\n").unwrap_err();
        assert!(error.contains("\"Welc\""), "{error}");
    }

    #[test]
    fn a_stream_that_ends_in_a_packet_is_an_error() {
        let whole = with_word(DATA, 100, 100);
        for len in 1..whole.len() {
            assert!(handed_on(&whole[..len]).is_err(), "{len}");
        }
    }
}
