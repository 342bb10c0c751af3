//! Names that people give to rooms and to themselves.

use std::fmt;
use std::str::FromStr;

/// A room's or a person's name: 1 to 64 characters that can be shown and put in a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        if text.trim().is_empty() {
            return Err(NameError::Empty);
        }
        let length = text.chars().count();
        if length > MAX_CHARS {
            return Err(NameError::Long { length });
        }
        if text.contains('/') || text == "." || text == ".." {
            return Err(NameError::Path);
        }
        if let Some(unseen) = text.chars().find(|&c| is_unseen(c)) {
            return Err(NameError::Unseen { code: unseen.into() });
        }
        Ok(Name(text.to_owned()))
    }
}

/// Why a text is no name. Reads on after "the room name" or "the name".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    Empty,
    Long { length: usize },
    Path,
    Unseen { code: u32 },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => write!(f, "is empty"),
            NameError::Long { length } => {
                write!(f, "has {length} characters; {MAX_CHARS} is the most")
            }
            NameError::Path => write!(f, "must not contain '/' nor be '.' or '..'"),
            NameError::Unseen { code } => {
                write!(f, "contains the unprintable character U+{code:04X}")
            }
        }
    }
}

impl std::error::Error for NameError {}

/// Control characters, and those that change how the rest of a log line or a tile reads: line and
/// paragraph separators and the bidirectional overrides.
fn is_unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

const MAX_CHARS: usize = 64;

#[test]
fn names_are_short_and_printable() {
    for good in ["a", "Grace Hopper", "Zoë 🚀", "..a", &"x".repeat(64), &"é".repeat(64)] {
        assert!(good.parse::<Name>().is_ok(), "{good:?}");
    }
    assert_eq!("".parse::<Name>(), Err(NameError::Empty));
    assert_eq!("  ".parse::<Name>(), Err(NameError::Empty));
    assert_eq!("x".repeat(65).parse::<Name>(), Err(NameError::Long { length: 65 }));
    assert_eq!("a/b".parse::<Name>(), Err(NameError::Path));
    assert_eq!("..".parse::<Name>(), Err(NameError::Path));
    assert_eq!("a\nb".parse::<Name>(), Err(NameError::Unseen { code: 10 }));
    assert_eq!("a\u{202E}b".parse::<Name>(), Err(NameError::Unseen { code: 0x202E }));
}
