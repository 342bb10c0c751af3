//! An input read as a script: numbers and runs of bytes, zero when it has ended.

/// The part of an input that has not been read.
#[derive(Clone, Copy)]
pub struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    /// From its first byte.
    pub fn new(input: &'a [u8]) -> Script<'a> {
        Script { rest: input }
    }

    /// Whether anything is left.
    pub fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        first
    }

    /// Two bytes, big-endian.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A length and as many bytes, or what is left.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.word()) % 2_100;
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A count up to 7 and as many `(position, mask)` pairs: bits of `target` flip.
    pub fn spoil(&mut self, target: &mut [u8]) {
        for _ in 0..self.byte() % 8 {
            let (at, mask) = (usize::from(self.word()), self.byte());
            if !target.is_empty() {
                target[at % target.len()] ^= mask;
            }
        }
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// Writes scripts.
#[derive(Clone, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// One step's fixed part.
    pub fn step(mut self, bytes: &[u8]) -> Writer {
        self.0.extend(bytes);
        self
    }

    /// A length and the bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Writer {
        self.0.extend((bytes.len() as u16).to_be_bytes());
        self.0.extend(bytes);
        self
    }
}
