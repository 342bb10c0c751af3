// The call page: one WebSocket for signalling, one RTCPeerConnection for everything else.
// docs/signalling.md describes the messages.

import { Chat, LABEL as CHAT } from "./chat.js";
import { Digest, INTERVAL as DIGEST_INTERVAL, LABEL as TELEMETRY } from "./digest.js";
import { openCamera, openTestMedia, whyNoCamera } from "./media.js";
import { Meter, inboundSample, outboundSample } from "./meter.js";
import { INTERVAL, Pulse, bytesReceived } from "./pulse.js";
import { Tiles } from "./tiles.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

/* ---- The call ---- */

// One stay in a room, across as many connections as it takes.
class Call {
  constructor({ room, name, token, source }) {
    Object.assign(this, { room, name, token, source });
    this.tiles = new Tiles($("tiles"), askForSound);
    this.self = this.tiles.ensure(SELF, `${name} (you)`);
    this.self.element.classList.add("self");
    this.self.element.dataset.name = name;
    this.self.video.muted = true;
    this.people = new Map();
    this.floor = null;
    this.chat = new Chat(name);
    this.attempt = 0;
    this.over = false;
    this.showSelf();
    this.figuresTimer = setInterval(() => this.updateFigures(), 1000);
    this.speechTimer = setInterval(() => this.updateSpeech(), 200);
    this.digestTimer = setInterval(() => this.sendDigest(), DIGEST_INTERVAL);
    this.feelPulse();
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
    this.reached = false;
    this.joined = false;
    this.slots = [];
    this.meters = new Map();
    this.pulse = new Pulse();
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
    this.telemetry = null;
    if (query.get("channels") !== "0") {
      this.chat.carry(pc.createDataChannel(CHAT));
      // A digest that is late is of no use: the next one comes.
      this.telemetry = pc.createDataChannel(TELEMETRY, { ordered: false, maxRetransmits: 0 });
    }
    this.digest = new Digest();
    preferCodec(pc.getTransceivers().at(-1), query.get("codec"));
    if (!this.source.camOn) this.videoSender.replaceTrack(null);
    pc.onnegotiationneeded = () => current() && this.joined && this.enqueue(() => this.negotiate());
    pc.onconnectionstatechange = () => current() && this.onConnectionState();

    ws.onopen = () => {
      this.reached = true;
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
    ws.onclose = () => current() && this.onSocketClosed();
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
    this.chat.carry(null);
    this.tiles.keepOnly(new Set([SELF]));
    this.people.clear();
    this.showPeople();
  }

  async onSocketClosed() {
    const ws = this.ws;
    if (this.bye && !this.bye.retry) return this.end(this.bye.reason);
    if (!this.reached) {
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
    if (!navigator.onLine || (!this.reached && this.attempt > 1)) this.sayOffline();
    else setStatus("reconnecting", wait < 1500 ? "Reconnecting…" : `Reconnecting in ${Math.round(wait / 1000)} s…`);
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
        // Not by another ICE restart: Firefox connects then, and shows no picture any more.
        this.reconnect();
        break;
    }
  }

  // Restarts ICE when the path has died and the browser does not know yet.
  async feelPulse() {
    while (!this.over) {
      const { pc } = this;
      const stats = await pc?.getStats().catch(() => null); // It may close meanwhile.
      if (stats && this.pc === pc && this.mayOffer() && this.pulse.read(bytesReceived(stats), performance.now())) {
        pc.restartIce();
      }
      await new Promise((done) => setTimeout(done, INTERVAL));
    }
  }

  // Without the server, or before the last exchange is complete, an offer leads nowhere.
  mayOffer() {
    return this.ws?.readyState === WebSocket.OPEN && this.pc.signalingState === "stable";
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
      case "floor":
        this.floor = message.peer;
        this.showFloor();
        break;
      case "codec-missing":
        this.tiles.ensure(message.publisher.peer, message.publisher.name).note(`sends ${message.codec}, which this browser cannot play`);
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
    this.showFloor();
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

  async sendDigest() {
    const { pc, telemetry } = this;
    if (telemetry?.readyState !== "open") return;
    const stats = await pc.getStats();
    if (this.pc !== pc || telemetry.readyState !== "open") return;
    telemetry.send(JSON.stringify(this.digest.read([...stats.values()], performance.now())));
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

  // Who has the floor keeps it through pauses; the outline follows each word.
  showFloor() {
    for (const [peer, tile] of this.tiles.byPeer) {
      tile.mark("floor", this.floor !== null && (peer === SELF ? this.peer : peer) === this.floor);
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
    clearInterval(this.digestTimer);
    removeEventListener("online", this.onOnline);
    removeEventListener("offline", this.onOffline);
    this.drop();
    this.tiles.remove(SELF);
    this.source.close();
    showLobby(reason);
  }
}

// Three sizes, of which the SFU gives each viewer the one that fits; `?simulcast=0` sends one, and
// `?svc=L3T3_KEY` sends them in one stream, with VP9 or AV1.
function videoEncodings() {
  const svc = query.get("svc");
  if (svc) return [{ scalabilityMode: svc }];
  if (query.get("simulcast") === "0") return [{}];
  return [
    { rid: "q", scaleResolutionDownBy: 4 },
    { rid: "h", scaleResolutionDownBy: 2 },
    { rid: "f" },
  ];
}

// `?codec=AV1` sends the picture in that codec, where the browser can.
function preferCodec(transceiver, name) {
  if (!name) return;
  const codecs = RTCRtpSender.getCapabilities("video").codecs;
  const isIt = ({ mimeType }) => mimeType.toLowerCase() === `video/${name.toLowerCase()}`;
  const wanted = codecs.filter(isIt);
  const repairs = codecs.filter(({ mimeType }) => mimeType === "video/rtx");
  if (wanted.length > 0) transceiver.setCodecPreferences([...wanted, ...repairs]);
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

const SELF = "self";

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
