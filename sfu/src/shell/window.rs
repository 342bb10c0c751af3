//! How long packets may wait for others to leave with, by how busy a worker is.

use std::time::Duration;

/// What is tried in turn. A frame that a browser paces comes in packets 2 ms apart.
const WINDOWS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(2), Duration::from_millis(4)];

/// From a busier second of its time on, in thousandths, the next longer one is tried.
const RAISE: [u64; 3] = [500, 600, 700];
/// Below it the next shorter one is enough. A longer window makes a worker less busy, which is no reason to go back.
const LOWER: [u64; 3] = [250, 350, 450];

/// One worker's window.
#[derive(Default, Debug)]
pub struct Window {
    level: usize,
}

impl Window {
    /// A tenth of a second has passed of which the worker was busy so many thousandths. One step at a time.
    pub fn on_busy(&mut self, thousandths: u64) -> Duration {
        if RAISE.get(self.level).is_some_and(|bound| thousandths >= *bound) {
            self.level += 1;
        } else if self.level > 0 && thousandths < LOWER[self.level - 1] {
            self.level -= 1;
        }
        WINDOWS[self.level]
    }
}

#[test]
fn it_grows_with_load_and_does_not_flap() {
    let mut window = Window::default();
    let mut after =
        |busy: &[u64]| busy.iter().map(|busy| window.on_busy(*busy).as_millis()).collect::<Vec<_>>();
    assert_eq!(after(&[0, 499]), [0, 0]);
    assert_eq!(after(&[900, 900, 900, 900]), [1, 2, 4, 4]);
    assert_eq!(after(&[600, 450, 449, 400, 349]), [4, 4, 2, 2, 1]);
    assert_eq!(after(&[499, 250, 249, 249]), [1, 1, 0, 0]);
}
