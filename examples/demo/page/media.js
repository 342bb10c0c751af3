// What this device sends: camera and microphone, or a test picture and tone.

import { hueOf } from "./tiles.js";

// Camera and microphone, or as much of them as there is.
export async function openCamera() {
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

export function whyNoCamera(error) {
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
export function openTestMedia(name) {
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

const FRAMES_PER_SECOND = 20;
