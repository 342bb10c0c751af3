// Whether the path to the server lives, from the bytes that RTCPeerConnection.getStats() counts.

// A NAT that forgets a mapping sends the next packet from another address. Neither side is told, and the server takes nothing
// from an address that no connectivity check has proved: both wait for the browser's next check, up to five seconds. An ICE
// restart makes it check now.
//
// While media flows something arrives all the time: the others' media, or the feedback on ours, ten times a second and more.
// A silence where there was none before is a dead path. If it was not, that costs an offer and no picture: media stays on the
// old path until the new one is proved.
export class Pulse {
  constructor() {
    this.bytes = 0;
    // Readings that brought nothing, in a row; and those that brought something since there were two of these.
    this.empty = 0;
    this.steady = 0;
    this.wait = SHORTEST_WAIT;
    this.notBefore = -Infinity;
  }

  // Takes a reading, and says whether to restart ICE now. Saying so counts as having done it. Readings are counted rather
  // than timed: a hidden tab takes one a second.
  read(bytes, at) {
    const heard = bytes > this.bytes;
    // Firefox forgets what the old paths brought as soon as it restarts.
    this.bytes = bytes;
    if (!heard) {
      this.empty += 1;
      return this.empty >= DEAD && this.steady >= SETTLED && this.mayRestart(at);
    }
    if (this.empty > 1) this.steady = 0;
    this.steady += 1;
    this.empty = 0;
    return false;
  }

  mayRestart(at) {
    if (at < this.notBefore) return false;
    this.wait = at - this.notBefore > CALM ? SHORTEST_WAIT : Math.min(2 * this.wait, LONGEST_WAIT);
    this.notBefore = at + this.wait;
    return true;
  }
}

// What all paths have brought; connectivity checks do not count.
export function bytesReceived(stats) {
  let bytes = 0;
  for (const report of stats.values()) {
    if (report.type === "candidate-pair") bytes += report.bytesReceived ?? 0;
  }
  return bytes;
}

// Between two readings. This and what follows in milliseconds, but for the counts.
export const INTERVAL = 100;
// 300 to 400 ms after the last packet. Chromium takes up to 250 to send the first check of a restart.
const DEAD = 3;
// Two seconds. Discontinuous transmission, which sends every 400 ms, never gets there.
const SETTLED = 20;
// A second restart makes Firefox let go of the old path, to which an outage may yet return. But then its first restart has
// no checks left: the last goes out after 6.3 s, and 5 s later it gives up.
const SHORTEST_WAIT = 10_000;
const LONGEST_WAIT = 60_000;
const CALM = 60_000;
