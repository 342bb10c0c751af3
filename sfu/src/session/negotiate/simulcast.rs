//! Simulcast: the layers of one m-line that a client offers to send, and those we take (RFC 8853, RFC 8851).

use crate::ids::Rid;

/// One stream of several that show the same, as the client names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layer {
    pub rid: Rid,
    /// Offered as `~rid`, and said again so: libwebrtc would switch the layer on, whatever its application has set.
    pub paused: bool,
}

/// The layers that `a=rid` and `a=simulcast` lines offer to send, in order of preference. Of alternatives
/// the first we know; what is malformed, named twice or has no `a=rid` is not there.
pub(super) fn offered<'a>(
    rids: impl Iterator<Item = &'a str>,
    simulcast: impl Iterator<Item = &'a str>,
) -> Vec<Layer> {
    let sent: Vec<Rid> = rids.filter_map(sent).collect();
    let mut layers: Vec<Layer> = Vec::new();
    for alternatives in simulcast.filter_map(send_list).next().unwrap_or("").split(';') {
        let known = |layer: &Layer| sent.contains(&layer.rid);
        let layer = alternatives.split(',').filter_map(Layer::read).find(known);
        if let Some(layer) = layer.filter(|layer| !has(&layers, layer)) {
            layers.push(layer);
        }
    }
    layers
}

/// Of the offered layers those we take, in their order: those taken `before` and the first others.
pub(super) fn accepted(offered: &[Layer], before: &[Layer]) -> Vec<Layer> {
    let again = |layer: &&Layer| has(before, layer);
    let mut room = MAX_LAYERS.saturating_sub(offered.iter().filter(again).count());
    let mut take = |layer: &&Layer| {
        let taken = again(layer) || room > 0;
        room -= usize::from(taken && !again(layer));
        taken
    };
    several(offered.iter().filter(|layer| take(layer)).copied().collect())
}

/// Of the layers we offered to take those that the answer sends, in its order.
pub(super) fn kept(answered: &[Layer], offered: &[Layer]) -> Vec<Layer> {
    several(answered.iter().filter(|layer| has(offered, layer)).copied().collect())
}

/// One alone is no simulcast: libwebrtc never offers it, and taken as a plain stream it is the same.
fn several(layers: Vec<Layer>) -> Vec<Layer> {
    if layers.len() > 1 { layers } else { Vec::new() }
}

fn has(layers: &[Layer], wanted: &Layer) -> bool {
    layers.iter().any(|layer| layer.rid == wanted.rid)
}

/// What `a=simulcast` says when we take them.
pub(super) fn receive(layers: &[Layer]) -> String {
    let names = layers.iter().map(|layer| format!("{}{}", if layer.paused { "~" } else { "" }, layer.rid));
    format!("recv {}", names.collect::<Vec<_>>().join(";"))
}

impl Layer {
    fn read(name: &str) -> Option<Layer> {
        let (name, paused) = name.strip_prefix('~').map_or((name, false), |name| (name, true));
        Some(Layer { rid: Rid::new(name)?, paused })
    }
}

/// `<id> send [<restrictions>]`, RFC 8851 §10.
fn sent(value: &str) -> Option<Rid> {
    let mut words = value.split_ascii_whitespace();
    let (name, direction) = (words.next()?, words.next()?);
    Rid::new(name).filter(|_| direction == "send")
}

/// The list behind `send`, which may come after the one behind `recv` (RFC 8853 §5.1).
fn send_list(value: &str) -> Option<&str> {
    let mut words = value.split_ascii_whitespace();
    while let (Some(direction), Some(list)) = (words.next(), words.next()) {
        if direction == "send" {
            return Some(list);
        }
    }
    None
}

/// Browsers send three at most; one more for those who make their own. Each costs us a stream's state.
pub(super) const MAX_LAYERS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rids: &[&str], simulcast: &[&str]) -> String {
        receive(&offered(rids.iter().copied(), simulcast.iter().copied()))
    }

    #[test]
    fn layers_are_those_with_a_name_of_their_own() {
        let rids = ["q send", "h send pt=96;max-width=640", "f send"];
        let table = [
            ("send q;h;f", "recv q;h;f"),
            ("send f;~h;q", "recv f;~h;q"),
            (" send q;h recv x", "recv q;h"),
            ("recv x;y send q;f", "recv q;f"),
            ("send q,h;f", "recv q;f"),
            ("send x,~h;f", "recv ~h;f"),
            ("send q;q;~q;h", "recv q;h"),
            ("send q;;h;", "recv q;h"),
            ("send ~;~~q;h", "recv h"),
            ("send x;y", "recv "),
            ("recv q;h", "recv "),
            ("send", "recv "),
            ("", "recv "),
            ("sendq;h", "recv "),
            ("q;h send", "recv "),
            ("send rid=q;h", "recv h"),
        ];
        for (simulcast, ours) in table {
            assert_eq!(read(&rids, &[simulcast]), ours, "{simulcast}");
        }
        // The first line that can be read counts.
        assert_eq!(read(&rids, &["", "send q;h", "send f"]), "recv q;h");
        assert_eq!(read(&rids, &[]), "recv ");
        let bad = ["q recv", "h", "", "f sendrecv", "~q send", "abcdefghijklmnopq send", "ü send", "x send"];
        assert_eq!(read(&bad, &["send q;h;f;abcdefghijklmnopq;ü;x"]), "recv x");
    }

    #[test]
    fn four_are_taken_and_stay_taken() {
        let layers = |names: &str| -> Vec<Layer> { names.split(';').filter_map(Layer::read).collect() };
        let taken = |offered: &str, before: &str| receive(&accepted(&layers(offered), &layers(before)));
        assert_eq!(taken("a;b;c;d;e;f", ""), "recv a;b;c;d");
        assert_eq!(taken("e;~d;c;b;a", "a;b;c;d"), "recv ~d;c;b;a");
        assert_eq!(taken("e;f;g;b;a", "a;b;c;d"), "recv e;f;b;a");
        assert_eq!(taken("a;b", "a;b;c"), "recv a;b");
        assert_eq!(taken("a", "a;b;c"), "recv ");
        assert_eq!(taken("", "a;b"), "recv ");
        let answered = |names: &str| receive(&kept(&layers(names), &layers("a;b;c")));
        assert_eq!(answered("a;~b;c"), "recv a;~b;c");
        assert_eq!(answered("c;d;a"), "recv c;a");
        assert_eq!(answered("c;d"), "recv ");
    }
}
