// The call page: one WebSocket for signalling, one RTCPeerConnection for everything else.
// docs/signalling.md describes the messages.

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

/* ---- What this device sends ---- */

// Camera and microphone, or as much of them as there is.
async function openCamera() {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers open the camera only on https:// pages and on localhost.");
  }
  const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  const video = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
  let failure;
  for (const wanted of [{ audio, video }, { audio }, { video }]) {
    try {
      const stream = await navigator.mediaDevices.getUserMedia(wanted);
      return new Source(stream, { mirror: true, reopenVideo: () => reopenCamera(video) });
    } catch (error) {
      failure ??= error;
      if (error.name === "NotAllowedError") break;
    }
  }
  throw new Error(whyNoCamera(failure));
}

async function reopenCamera(video) {
  const stream = await navigator.mediaDevices.getUserMedia({ video });
  return stream.getVideoTracks()[0];
}

function whyNoCamera(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The browser was not allowed to use the camera and microphone.";
    case "NotFoundError":
      return "There is no camera and no microphone on this device.";
    case "NotReadableError":
      return "Another program is using the camera or microphone.";
    default:
      return `The camera did not open: ${error.message}`;
  }
}

// A moving picture with the sender's name and a clock, and a soft beep every two seconds.
function openTestMedia(name) {
  const picture = new TestPicture(name);
  const tone = new TestTone(name);
  const stream = new MediaStream([...picture.stream.getTracks(), ...tone.stream.getTracks()]);
  return new Source(stream, { mirror: false, close: () => (picture.stop(), tone.stop()) });
}

class TestPicture {
  constructor(name) {
    this.name = name;
    this.hue = hueOf(name);
    this.canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.draw();
    this.stream = this.canvas.captureStream(FRAMES_PER_SECOND);
    this.timer = setInterval(() => this.draw(), 1000 / FRAMES_PER_SECOND);
  }

  draw() {
    const { context: c, canvas: { width, height }, hue } = this;
    const now = performance.now() / 1000;
    const sky = c.createLinearGradient(0, 0, width, height);
    sky.addColorStop(0, `hsl(${hue + 20 * Math.sin(now / 3)} 45% 30%)`);
    sky.addColorStop(1, `hsl(${hue + 50} 55% 16%)`);
    c.fillStyle = sky;
    c.fillRect(0, 0, width, height);
    for (let wave = 0; wave < 3; wave++) this.drawWave(now, wave);
    const turn = (now / 2) % 1;
    c.fillStyle = `hsl(${hue + 180} 75% 65%)`;
    c.beginPath();
    c.arc(width * turn, height * (0.42 - 0.28 * Math.sin(Math.PI * turn)), 16, 0, 2 * Math.PI);
    c.fill();
    c.textAlign = "center";
    c.fillStyle = "#fff";
    c.font = "600 46px system-ui, sans-serif";
    c.fillText(this.name, width / 2, height / 2 + 4, width - 60);
    c.font = "24px ui-monospace, monospace";
    c.fillText(new Date().toISOString().slice(11, 22), width / 2, height / 2 + 46);
  }

  drawWave(now, wave) {
    const { context: c, canvas: { width, height }, hue } = this;
    const level = height * (0.68 + 0.1 * wave);
    c.fillStyle = `hsl(${hue + 15 * wave} 60% ${44 - 8 * wave}% / 55%)`;
    c.beginPath();
    c.moveTo(0, height);
    for (let x = 0; x <= width; x += 16) {
      c.lineTo(x, level + 12 * Math.sin(x / (70 - 12 * wave) + now * (1.2 + 0.5 * wave)));
    }
    c.lineTo(width, height);
    c.fill();
  }

  stop() {
    clearInterval(this.timer);
  }
}

class TestTone {
  constructor(name) {
    this.context = new AudioContext();
    this.output = this.context.createMediaStreamDestination();
    this.stream = this.output.stream;
    this.pitch = [261.6, 293.7, 329.6, 392, 440, 523.3][hueOf(name) % 6];
    this.timer = setInterval(() => this.beep(), 2000);
    // A page that joined by itself may make no sound before it is touched.
    this.wake = () => this.context.resume();
    document.addEventListener("pointerdown", this.wake);
    this.wake();
  }

  beep() {
    const { context } = this;
    const start = context.currentTime + 0.02;
    const oscillator = new OscillatorNode(context, { frequency: this.pitch });
    const volume = new GainNode(context, { gain: 0 });
    volume.gain.linearRampToValueAtTime(0, start);
    volume.gain.linearRampToValueAtTime(0.12, start + 0.03);
    volume.gain.linearRampToValueAtTime(0, start + 0.3);
    oscillator.connect(volume).connect(this.output);
    oscillator.start(start);
    oscillator.stop(start + 0.32);
  }

  stop() {
    clearInterval(this.timer);
    document.removeEventListener("pointerdown", this.wake);
    this.context.close();
  }
}

// The tracks to send, and what mute does to them.
class Source {
  constructor(stream, { mirror, reopenVideo, close }) {
    this.stream = stream;
    this.mirror = mirror;
    this.reopenVideo = reopenVideo;
    this.closeMore = close;
    this.micOn = this.camOn = true;
  }

  get audio() {
    return this.stream.getAudioTracks()[0] ?? null;
  }

  get video() {
    return this.stream.getVideoTracks()[0] ?? null;
  }

  // What the video sender carries now: nothing while the camera is off.
  get sentVideo() {
    return this.camOn ? this.video : null;
  }

  setMic(on) {
    this.micOn = on;
    if (this.audio) this.audio.enabled = on;
  }

  // A camera is let go while it is off, so that its light goes out.
  async setCam(on) {
    if (this.reopenVideo && on) {
      const track = await this.reopenVideo();
      for (const old of this.stream.getVideoTracks()) this.stream.removeTrack(old);
      this.stream.addTrack(track);
    }
    this.camOn = on;
    if (this.reopenVideo && !on) this.video?.stop();
  }

  close() {
    for (const track of this.stream.getTracks()) track.stop();
    this.closeMore?.();
  }
}

/* ---- The tiles ---- */

class Tile {
  constructor(peer, name) {
    this.element = $("tile-template").content.cloneNode(true).querySelector(".tile");
    this.video = this.element.querySelector("video");
    this.stream = new MediaStream();
    this.video.srcObject = this.stream;
    this.video.onloadeddata = () => this.video.videoWidth > 0 && this.setPicture(true);
    this.element.dataset.peer = peer;
    this.element.style.setProperty("--hue", hueOf(name));
    this.rename(name);
  }

  rename(name) {
    this.element.dataset.name = name;
    this.element.setAttribute("aria-label", name);
    this.element.querySelector(".who").textContent = name;
    this.element.querySelector(".avatar").textContent = initialsOf(name);
  }

  // Shows exactly these tracks. Sound and picture share an element, and so stay in step.
  carry(tracks) {
    for (const track of this.stream.getTracks()) {
      if (!tracks.includes(track)) this.stream.removeTrack(track);
    }
    const news = tracks.filter((track) => !this.stream.getTracks().includes(track));
    for (const track of news) this.stream.addTrack(track);
    if (news.length > 0) this.play();
  }

  async play() {
    try {
      await this.video.play();
    } catch (error) {
      if (error.name === "NotAllowedError") askForSound();
    }
  }

  mark(name, value) {
    const text = value ? "yes" : "no";
    if (this.element.dataset[name] !== text) this.element.dataset[name] = text;
  }

  setPicture(shown) {
    this.element.dataset.picture = shown ? "shown" : "none";
  }

  setFigures({ bitrate, loss, size }) {
    const [rate, lossText, sizeText] = [".rate", ".loss", ".size"].map((c) => this.element.querySelector(c));
    rate.textContent = bitrate === undefined ? "" : formatBitrate(bitrate);
    lossText.textContent = loss === undefined ? "" : `${(100 * loss).toFixed(1)} % lost`;
    lossText.dataset.high = loss > 0.02 ? "yes" : "no";
    sizeText.textContent = size ?? "";
    Object.assign(this.element.dataset, { bitrate: Math.round(bitrate ?? 0), loss: (loss ?? 0).toFixed(4) });
  }

  // The most the engine lets this peer send.
  setCap(bps) {
    this.element.dataset.cap = bps;
    this.element.querySelector(".cap").textContent = `limit ${formatBitrate(bps)}`;
  }

  remove() {
    this.video.srcObject = null;
    this.element.remove();
  }
}

class Tiles {
  constructor(container) {
    this.container = container;
    this.byPeer = new Map();
  }

  get(peer) {
    return this.byPeer.get(peer);
  }

  ensure(peer, name) {
    let tile = this.byPeer.get(peer);
    if (!tile) {
      tile = new Tile(peer, name);
      this.byPeer.set(peer, tile);
      this.container.append(tile.element);
      this.arrange();
    }
    return tile;
  }

  remove(peer) {
    this.byPeer.get(peer)?.remove();
    if (this.byPeer.delete(peer)) this.arrange();
  }

  keepOnly(peers) {
    for (const peer of [...this.byPeer.keys()]) if (!peers.has(peer)) this.remove(peer);
  }

  // As square a grid as the number allows, and on a phone at most two abreast.
  arrange() {
    const count = Math.max(1, this.byPeer.size);
    const columns = Math.ceil(Math.sqrt(count));
    const style = this.container.style;
    style.setProperty("--columns", columns);
    style.setProperty("--rows", Math.ceil(count / columns));
    style.setProperty("--narrow-columns", count > 4 ? 2 : 1);
  }
}

/* ---- The figures on the tiles ---- */

// Rates over the last few reports: one second alone jumps too much to read.
class Meter {
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
function inboundSample(reports, mids, trackIds, at) {
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

function outboundSample(reports, at) {
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

/* ---- The call ---- */

// One stay in a room, across as many connections as it takes.
class Call {
  constructor({ room, name, token, source }) {
    Object.assign(this, { room, name, token, source });
    this.tiles = new Tiles($("tiles"));
    this.self = this.tiles.ensure(SELF, `${name} (you)`);
    this.self.element.classList.add("self");
    this.self.element.dataset.name = name;
    this.self.video.muted = true;
    this.people = new Map();
    this.attempt = 0;
    this.over = false;
    this.showSelf();
    this.figuresTimer = setInterval(() => this.updateFigures(), 1000);
    this.speechTimer = setInterval(() => this.updateSpeech(), 200);
    this.onOnline = () => this.retryNow();
    this.onOffline = () => this.ws?.readyState !== WebSocket.OPEN && this.sayOffline();
    addEventListener("online", this.onOnline);
    addEventListener("offline", this.onOffline);
    this.connect();
  }

  get address() {
    const query = new URLSearchParams({ name: this.name });
    if (this.token) query.set("token", this.token);
    return new URL(`ws/${encodeURIComponent(this.room)}?${query}`, location.href);
  }

  /* -- connecting -- */

  connect() {
    clearTimeout(this.retryTimer);
    this.drop();
    setStatus("connecting", this.attempt === 0 ? "Connecting…" : "Reconnecting…");
    const address = this.address;
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const ws = (this.ws = new WebSocket(address));
    const pc = (this.pc = new RTCPeerConnection());
    let opened = false;
    this.joined = false;
    this.slots = [];
    this.meters = new Map();
    this.work = Promise.resolve();
    this.bye = null;
    // Stale connections keep quiet.
    const current = () => this.ws === ws && !this.over;

    pc.addTransceiver(this.source.audio ?? "audio", { direction: "sendonly", streams: [this.source.stream] });
    this.videoSender = pc.addTransceiver(this.source.video ?? "video", {
      direction: "sendonly",
      streams: [this.source.stream],
      sendEncodings: videoEncodings(),
    }).sender;
    if (!this.source.camOn) this.videoSender.replaceTrack(null);
    pc.onnegotiationneeded = () => current() && this.joined && this.enqueue(() => this.negotiate());
    pc.onconnectionstatechange = () => current() && this.onConnectionState();

    ws.onopen = () => {
      opened = true;
      this.enqueue(async () => {
        await pc.setLocalDescription();
        this.send({ type: "join", sdp: pc.localDescription.sdp });
      });
    };
    ws.onmessage = ({ data }) => {
      if (!current()) return;
      const message = JSON.parse(data);
      // A goodbye must be known before the socket closes; the rest waits its turn.
      if (message.type === "bye") this.bye = message;
      else this.enqueue(() => this.onMessage(message));
    };
    ws.onclose = () => current() && this.onSocketClosed(opened);
  }

  // Negotiation steps run one after the other, and those of a dropped connection not at all.
  enqueue(step) {
    const pc = this.pc;
    this.work = this.work
      .then(() => (this.pc === pc ? step() : undefined))
      .catch((error) => this.pc === pc && this.onBroken(error));
  }

  onBroken(error) {
    console.error("negotiation failed", error);
    this.reconnect();
  }

  send(message) {
    if (this.ws.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify(message));
  }

  // Lets go of the connection and of what it showed.
  drop() {
    const { ws, pc } = this;
    this.ws = this.pc = null;
    ws?.close();
    pc?.close();
    this.tiles.keepOnly(new Set([SELF]));
    this.people.clear();
    this.showPeople();
  }

  async onSocketClosed(opened) {
    const ws = this.ws;
    if (this.bye && !this.bye.retry) return this.end(this.bye.reason);
    if (!opened) {
      // The browser hides why a WebSocket was refused; a plain GET of its address tells.
      const refusal = await this.askWhyRefused();
      if (this.ws !== ws) return;
      if (refusal) return this.end(refusal);
    }
    this.reconnect();
  }

  async askWhyRefused() {
    try {
      const response = await fetch(this.address);
      const definite = response.status >= 400 && response.status < 500 && response.status !== 426;
      return definite ? (await response.text()).trim() : null;
    } catch {
      return null;
    }
  }

  // Waits twice as long each time, up to 15 s, and a random half of it less: when a server
  // restarts, its clients should not all come at once.
  reconnect() {
    clearTimeout(this.retryTimer);
    this.drop();
    const longest = Math.min(15_000, 500 * 2 ** Math.min(this.attempt++, 10));
    const wait = longest * (0.5 + 0.5 * Math.random());
    if (!navigator.onLine) this.sayOffline();
    else setStatus("reconnecting", wait < 1500 ? "Reconnecting…" : `Reconnecting in ${Math.round(wait / 1000)} s…`);
    if (this.attempt > 2) this.sayOffline();
    this.retryTimer = setTimeout(() => this.connect(), wait);
  }

  retryNow() {
    if (this.over || this.ws?.readyState === WebSocket.OPEN) return;
    this.connect();
  }

  sayOffline() {
    const why = navigator.onLine ? "the server does not answer" : "this device has no network";
    setStatus("offline", `Offline: ${why}; trying again`);
  }

  onConnectionState() {
    switch (this.pc.connectionState) {
      case "connected":
        this.attempt = 0;
        setStatus("connected", "Connected");
        hideBanner("unreachable");
        break;
      case "disconnected":
        setStatus("reconnecting", "Connection interrupted…");
        break;
      case "failed":
        this.reconnect();
        break;
    }
  }

  /* -- negotiating: the page is the polite side -- */

  async onMessage(message) {
    const { pc } = this;
    switch (message.type) {
      case "joined":
        await pc.setRemoteDescription({ type: "answer", sdp: message.answer });
        this.joined = true;
        this.peer = message.peer;
        for (const { peer, name } of message.peers) this.people.set(peer, name);
        this.showPeople();
        break;
      case "offer":
        // Rolls back an offer of our own; the browser then asks to negotiate again.
        await pc.setRemoteDescription({ type: "offer", sdp: message.sdp });
        await pc.setLocalDescription();
        this.send({ type: "answer", sdp: pc.localDescription.sdp });
        this.showSlots();
        break;
      case "answer":
        if (pc.signalingState === "have-local-offer") {
          await pc.setRemoteDescription({ type: "answer", sdp: message.sdp });
        }
        break;
      case "slots":
        this.slots = message.slots;
        this.showSlots();
        break;
      case "peer-joined":
        this.people.set(message.peer, message.name);
        this.showPeople();
        break;
      case "peer-left":
        this.people.delete(message.peer);
        this.slots = this.slots.filter(({ publisher }) => publisher?.peer !== message.peer);
        this.tiles.remove(message.peer);
        this.showPeople();
        break;
      case "cap":
        this.self.setCap(message.bps);
        break;
      case "unreachable":
        showUnreachable(message.announced);
        break;
      case "error":
        // After a glare the engine's offer comes, and ours again after it.
        if (message.code !== "glare") console.warn(`${message.code}: ${message.message}`);
        if (message.code === "gone") this.reconnect();
        if (message.code === "busy") showBanner("busy", [text("h2", "The server has no room just now"), text("p", message.message)]);
        break;
    }
  }

  async negotiate() {
    if (this.pc.signalingState !== "stable") return;
    await this.pc.setLocalDescription();
    this.send({ type: "offer", sdp: this.pc.localDescription.sdp });
  }

  /* -- showing -- */

  // One tile per publisher, with the tracks of all m-lines that carry it.
  showSlots() {
    const shown = new Map([[SELF, null]]);
    for (const { mid, publisher } of this.slots) {
      if (!publisher) continue;
      const group = shown.get(publisher.peer) ?? { name: publisher.name, tracks: [], mids: [] };
      const track = this.pc.getTransceivers().find((transceiver) => transceiver.mid === mid)?.receiver.track;
      if (track) group.tracks.push(track);
      group.mids.push(mid);
      shown.set(publisher.peer, group);
    }
    this.tiles.keepOnly(shown);
    for (const [peer, group] of shown) {
      if (peer === SELF) continue;
      const tile = this.tiles.ensure(peer, group.name);
      tile.mids = new Set(group.mids);
      tile.carry(group.tracks);
      if (!this.people.has(peer)) this.people.set(peer, group.name);
    }
    this.showPeople();
  }

  showSelf() {
    const { self, source } = this;
    self.carry(source.sentVideo ? [source.sentVideo] : []);
    self.setPicture(source.sentVideo !== null);
    self.mark("mirror", source.mirror);
    self.mark("muted", !source.micOn || !source.audio);
  }

  showPeople() {
    $("people").textContent = this.people.size + 1;
  }

  async updateFigures() {
    const { pc } = this;
    if (!pc) return;
    const stats = await pc.getStats();
    if (this.pc !== pc) return;
    const reports = [...stats.values()];
    const at = performance.now();
    for (const [peer, tile] of this.tiles.byPeer) {
      const meter = this.meters.get(peer) ?? new Meter();
      this.meters.set(peer, meter);
      if (peer === SELF) {
        meter.push(outboundSample(reports, at));
        tile.setFigures(meter.read());
        continue;
      }
      const trackIds = new Set(tile.stream.getTracks().map((track) => track.id));
      meter.push(inboundSample(reports, tile.mids ?? new Set(), trackIds, at));
      const figures = meter.read();
      if (meter.isFull) tile.setPicture(figures.frames > 0);
      tile.setFigures(figures.frames > 0 ? figures : { ...figures, size: undefined });
    }
  }

  updateSpeech() {
    if (!this.pc) return;
    for (const { mid, receiver } of this.pc.getTransceivers()) {
      if (receiver.track.kind !== "audio") continue;
      const peer = this.slots.find((slot) => slot.mid === mid)?.publisher?.peer;
      const level = receiver.getSynchronizationSources?.()[0]?.audioLevel ?? 0;
      this.tiles.get(peer)?.mark("speaking", level > 0.02);
    }
  }

  /* -- the buttons -- */

  toggleMic() {
    this.source.setMic(!this.source.micOn);
    this.showSelf();
    showButtons(this.source);
  }

  async toggleCam() {
    try {
      await this.source.setCam(!this.source.camOn);
      await this.videoSender.replaceTrack(this.source.sentVideo);
    } catch (error) {
      showBanner("camera", [text("h2", "The camera did not open"), text("p", whyNoCamera(error))]);
    }
    this.showSelf();
    showButtons(this.source);
  }

  leave() {
    this.send({ type: "leave" });
    this.end();
  }

  end(reason) {
    this.over = true;
    clearTimeout(this.retryTimer);
    clearInterval(this.figuresTimer);
    clearInterval(this.speechTimer);
    removeEventListener("online", this.onOnline);
    removeEventListener("offline", this.onOffline);
    this.drop();
    this.tiles.remove(SELF);
    this.source.close();
    showLobby(reason);
  }
}

// `?simulcast=1` sends three sizes, and the SFU gives each viewer the one that fits.
function videoEncodings() {
  if (query.get("simulcast") !== "1") return [{}];
  return [
    { rid: "q", scaleResolutionDownBy: 4 },
    { rid: "h", scaleResolutionDownBy: 2 },
    { rid: "f" },
  ];
}

/* ---- The page around it ---- */

let banner = null;

function setStatus(state, words) {
  $("status").dataset.state = state;
  $("status").textContent = words;
}

function showBanner(kind, parts) {
  banner = kind;
  $("banner-text").replaceChildren(...parts);
  $("banner").hidden = false;
}

function hideBanner(kind = banner) {
  if (kind !== banner) return;
  banner = null;
  $("banner").hidden = true;
}

function showUnreachable(announced) {
  const ports = [...new Set(announced.map((address) => address.replace(/^.*:/, "")))].join(", ");
  const tries = [
    `Open UDP ${ports.includes(",") ? "ports" : "port"} ${ports} in the server’s firewall, and in the cloud’s.`,
    "If the server is behind NAT or in a container, start it with --announce and its public address.",
    "Some offices and hotels let no UDP out: try another network, such as a phone’s.",
  ];
  const list = document.createElement("ul");
  list.append(...tries.map((words) => text("li", words)));
  const where = text("p", "The server told this browser to send media to ");
  where.append(text("code", announced.join(", ")), ", and nothing arrived there. What to try:");
  showBanner("unreachable", [text("h2", "No media gets through"), where, list]);
}

// A page that joined by itself was not touched yet, and may not play sound before that.
function askForSound() {
  if (banner) return;
  showBanner("sound", [text("h2", "Click anywhere to hear the others")]);
  addEventListener("pointerdown", () => {
    hideBanner("sound");
    if (window.call) for (const tile of window.call.tiles.byPeer.values()) tile.play();
  }, { once: true });
}

function showButtons(source) {
  const [mic, cam] = [$("mic"), $("cam")];
  mic.disabled = !source.audio;
  cam.disabled = !source.video;
  mic.setAttribute("aria-pressed", String(!source.micOn));
  cam.setAttribute("aria-pressed", String(!source.camOn));
  mic.setAttribute("aria-label", source.micOn ? "Mute microphone" : "Unmute microphone");
  cam.setAttribute("aria-label", source.camOn ? "Turn camera off" : "Turn camera on");
  for (const button of [mic, cam]) button.title = button.getAttribute("aria-label");
}

function showLobby(reason) {
  window.call = null;
  hideBanner();
  setStatus("idle", "");
  document.title = "sluicegate";
  document.body.dataset.view = "lobby";
  $("join").disabled = false;
  showNotice(reason);
}

function showNotice(words) {
  $("notice").textContent = words ?? "";
  $("notice").hidden = !words;
}

async function join() {
  const [room, name] = [$("room").value.trim(), $("name").value.trim()];
  showNotice();
  $("join").disabled = true;
  let source;
  try {
    source = $("test-media").checked ? openTestMedia(name) : await openCamera();
  } catch (error) {
    $("join").disabled = false;
    $("test-media").checked = true;
    return showNotice(`${error.message} Join once more to send a test picture instead.`);
  }
  $("room-name").textContent = room;
  document.title = `${room} · sluicegate`;
  document.body.dataset.view = "stage";
  showButtons(source);
  window.call = new Call({ room, name, token: query.get("token"), source });
}

async function copyInvite() {
  const link = new URL(`?${new URLSearchParams({ room: $("room").value.trim() })}`, location.href).href;
  try {
    await navigator.clipboard.writeText(link);
    $("invite-text").textContent = "Copied";
  } catch {
    // Pages on plain http may not write to the clipboard.
    prompt("The link to this room:", link);
  }
  setTimeout(() => ($("invite-text").textContent = "Copy link"), 2000);
}

/* ---- Small things ---- */

function text(tag, words) {
  return Object.assign(document.createElement(tag), { textContent: words });
}

function formatBitrate(bits) {
  return bits >= 1e6 ? `${(bits / 1e6).toFixed(1)} Mb/s` : `${Math.round(bits / 1e3)} kb/s`;
}

function hueOf(name) {
  let hash = 0;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 3600;
  return (hash * 7) % 360;
}

function initialsOf(name) {
  const words = name.replace(" (you)", "").split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : words;
  return letters.map((word) => [...word][0].toUpperCase()).join("");
}

const SELF = "self";
const FRAMES_PER_SECOND = 20;
const REPORTS_KEPT = 4;

$("room").value = query.get("room") ?? "";
$("name").value = query.get("name") ?? "";
$("test-media").checked = query.get("test") === "1";
$("form").addEventListener("submit", (event) => (event.preventDefault(), join()));
$("mic").addEventListener("click", () => window.call?.toggleMic());
$("cam").addEventListener("click", () => window.call?.toggleCam());
$("leave").addEventListener("click", () => window.call?.leave());
$("invite").addEventListener("click", copyInvite);
$("banner-close").addEventListener("click", () => hideBanner());
addEventListener("pagehide", () => window.call?.send({ type: "leave" }));
(["room", "name"].map($).find((field) => !field.value) ?? $("join")).focus();
if (query.get("autojoin") === "1" && $("form").reportValidity()) join();
