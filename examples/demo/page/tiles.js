// The tiles: one per person, with picture, sound, name and figures.

class Tile {
  constructor(peer, name, onSilenced) {
    this.onSilenced = onSilenced;
    this.element = document.getElementById("tile-template").content.cloneNode(true).querySelector(".tile");
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
      if (error.name === "NotAllowedError") this.onSilenced();
    }
  }

  mark(name, value) {
    const text = value ? "yes" : "no";
    if (this.element.dataset[name] !== text) this.element.dataset[name] = text;
  }

  setPicture(shown) {
    if (shown) this.note("");
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

  // Why there is no picture.
  note(words) {
    this.element.querySelector(".note").textContent = words;
  }

  // The most the engine lets this peer send.
  setCap(bps) {
    this.element.dataset.cap = bps ?? "";
    this.element.querySelector(".cap").textContent = bps === null ? "" : `limit ${formatBitrate(bps)}`;
  }

  remove() {
    this.video.srcObject = null;
    this.element.remove();
  }
}

export class Tiles {
  // `onSilenced` hears that the browser will play no sound before the page is touched.
  constructor(container, onSilenced) {
    this.container = container;
    this.onSilenced = onSilenced;
    this.byPeer = new Map();
  }

  get(peer) {
    return this.byPeer.get(peer);
  }

  ensure(peer, name) {
    let tile = this.byPeer.get(peer);
    if (!tile) {
      tile = new Tile(peer, name, this.onSilenced);
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

export function formatBitrate(bits) {
  return bits >= 1e6 ? `${(bits / 1e6).toFixed(1)} Mb/s` : `${Math.round(bits / 1e3)} kb/s`;
}

// A name's colour, the same on every screen.
export function hueOf(name) {
  let hash = 0;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 3600;
  return (hash * 7) % 360;
}

function initialsOf(name) {
  const words = name.replace(" (you)", "").split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : words;
  return letters.map((word) => [...word][0].toUpperCase()).join("");
}
