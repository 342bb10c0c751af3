// Bitrate and loss, from what RTCPeerConnection.getStats() reports.

// Rates over the last few reports: one second alone jumps too much to read.
export class Meter {
  constructor() {
    this.samples = [];
  }

  push(sample) {
    this.samples.push(sample);
    if (this.samples.length > REPORTS_KEPT) this.samples.shift();
  }

  get isFull() {
    return this.samples.length === REPORTS_KEPT;
  }

  read() {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    if (!first || last === first) return {};
    const seconds = (last.at - first.at) / 1000;
    const lost = Math.max(0, last.lost - first.lost);
    const packets = last.packets - first.packets + (last.sent ? 0 : lost);
    return {
      bitrate: Math.max(0, (8 * (last.bytes - first.bytes)) / seconds),
      loss: packets > 0 ? Math.min(1, lost / packets) : undefined,
      frames: last.frames - first.frames,
      size: last.size,
    };
  }
}

// Adds up the reports that `pick` chooses. `mids` are the m-lines a tile shows.
export function inboundSample(reports, mids, trackIds, at) {
  const sample = { at, bytes: 0, lost: 0, packets: 0, frames: 0 };
  for (const report of reports) {
    if (report.type !== "inbound-rtp") continue;
    if (!mids.has(report.mid) && !trackIds.has(report.trackIdentifier)) continue;
    sample.bytes += report.bytesReceived ?? 0;
    sample.lost += report.packetsLost ?? 0;
    sample.packets += report.packetsReceived ?? 0;
    if (report.kind === "video") {
      sample.frames += report.framesDecoded ?? 0;
      if (report.frameWidth) sample.size = `${report.frameWidth}×${report.frameHeight}`;
    }
  }
  return sample;
}

export function outboundSample(reports, at) {
  const sample = { at, bytes: 0, lost: 0, packets: 0, frames: 0, sent: true };
  let widest = 0;
  for (const report of reports) {
    if (report.type === "remote-inbound-rtp") sample.lost += report.packetsLost ?? 0;
    if (report.type !== "outbound-rtp") continue;
    sample.bytes += report.bytesSent ?? 0;
    sample.packets += report.packetsSent ?? 0;
    sample.frames += report.framesEncoded ?? 0;
    if (report.frameWidth > widest) {
      widest = report.frameWidth;
      sample.size = `${report.frameWidth}×${report.frameHeight}`;
    }
  }
  return sample;
}

const REPORTS_KEPT = 4;
