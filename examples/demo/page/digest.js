// What this browser tells the server about its media: a digest of RTCPeerConnection.getStats() every ten seconds, on the data
// channel `sfu-telemetry`. The server keeps distributions of it, and believes none of it alone.

export class Digest {
  constructor() {
    this.last = null;
  }

  // What there is to tell since the last time. Seconds and bits per second as getStats has them; null where it has nothing.
  read(reports, at) {
    const now = sums(reports);
    const last = this.last ?? now;
    const seconds = this.last ? (at - this.at) / 1000 : 0;
    Object.assign(this, { last: now, at });
    const since = (key) => Math.max(0, now[key] - last[key]);
    const rate = (key) => (seconds > 0 ? (8 * since(key)) / seconds : null);
    const packets = since("received") + since("lost");
    return {
      v: 1,
      t: Date.now(),
      rtt: now.rtt,
      jitter: now.jitter,
      loss: packets > 0 ? since("lost") / packets : null,
      bitrateIn: rate("bytesIn"),
      bitrateOut: rate("bytesOut"),
      fps: now.fps,
      freezes: since("freezes"),
      freezeMs: 1000 * since("frozen"),
      limited: now.limited,
      playoutMs: since("emitted") > 0 ? (1000 * since("waited")) / since("emitted") : null,
    };
  }
}

function sums(reports) {
  const sum = { received: 0, lost: 0, bytesIn: 0, bytesOut: 0, freezes: 0, frozen: 0, emitted: 0, waited: 0 };
  Object.assign(sum, { rtt: null, jitter: null, fps: null, limited: null });
  for (const report of reports) {
    if (report.type === "candidate-pair" && report.nominated) sum.rtt = report.currentRoundTripTime ?? sum.rtt;
    if (report.type === "outbound-rtp") {
      sum.bytesOut += report.bytesSent ?? 0;
      // The worst of its layers.
      if (report.qualityLimitationReason && (sum.limited ?? "none") === "none") sum.limited = report.qualityLimitationReason;
    }
    if (report.type !== "inbound-rtp") continue;
    sum.received += report.packetsReceived ?? 0;
    sum.lost += report.packetsLost ?? 0;
    sum.bytesIn += report.bytesReceived ?? 0;
    sum.freezes += report.freezeCount ?? 0;
    sum.frozen += report.totalFreezesDuration ?? 0;
    sum.emitted += report.jitterBufferEmittedCount ?? 0;
    sum.waited += report.jitterBufferDelay ?? 0;
    // The worst of those it watches.
    if (report.jitter !== undefined) sum.jitter = Math.max(sum.jitter ?? 0, report.jitter);
    if (report.framesPerSecond !== undefined) sum.fps = Math.min(sum.fps ?? Infinity, report.framesPerSecond);
  }
  return sum;
}

export const LABEL = "sfu-telemetry";
// In milliseconds. The server takes one in five seconds.
export const INTERVAL = 10_000;
