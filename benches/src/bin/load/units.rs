//! How times and shares are written on the command line.

use std::time::Duration;

/// `13ms`, `10s`, `1.5s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("write a number and a unit, such as 13ms or 10s, not {text:?}");
    let (number, scale) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1e-3),
        (None, Some(number)) => (number, 1.0),
        (None, None) => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = number * scale;
    if (0.0..=3_600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("{text} is out of range: an hour at most"))
    }
}

/// `1%`, `0.5%`: a share of 1.
pub fn percent(text: &str) -> Result<f64, String> {
    let wrong = || format!("write a percentage from 0% to 50%, such as 1%, not {text:?}");
    let number: f64 = text.strip_suffix('%').ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
    if (0.0..=50.0).contains(&number) { Ok(number / 100.0) } else { Err(wrong()) }
}

#[test]
fn units_are_read() {
    assert_eq!(duration("13ms"), Ok(Duration::from_millis(13)));
    assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
    for wrong in ["13", "ms", "-1s", "2h", "1e9s", "NaNs"] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
    assert_eq!(percent("1%"), Ok(0.01));
    for wrong in ["1", "%", "60%", "-1%", "NaN%"] {
        assert!(percent(wrong).is_err(), "{wrong}");
    }
}
