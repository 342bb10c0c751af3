// The line that says how the server stands, and which limits bind this client.

const $ = (id) => document.getElementById(id);

// What a server gives up when it is short of something, step by step.
const LEVELS = [
  ["All well", "The server has room."],
  ["Busy: no new rooms", "Calls that are running notice nothing."],
  ["Busy: smaller pictures", "The server caps what everybody sends, and leaves the largest pictures out."],
  ["Busy: fewer frames", "The server leaves every other frame out, and takes no new cameras."],
  ["Busy: fewer pictures", "The server shows fewer people, and takes nobody new."],
  ["Busy: sound only", "The server forwards no pictures for now."],
];

const WANTED_BY = {
  peer: "set for you",
  tracks: "set for your camera",
  room: "your share of the room’s",
  node: "your share of the server’s",
  saturation: "the server is short",
  network: "your network",
};

// Why somebody is not let in, by the server's word for it: what to say above, and what below.
const REFUSALS = [
  [/draining|shutting down/, "This server is about to restart", "It takes nobody new meanwhile."],
  [/noisy/, "The room is full just now", "It takes so much already that others would suffer."],
  [/\brate\b/, "Many are joining just now", "One after the other: your turn comes."],
  [/unhealthy/, "The server is just coming back", "It takes a few people at a time."],
  [/saturated/, "The server is full just now", "It keeps what it has for those who are in."],
];

export function explainRefusal(words) {
  const known = REFUSALS.find(([pattern]) => pattern.test(words));
  return known ? known.slice(1) : ["The room is full just now", words && `${words[0].toUpperCase()}${words.slice(1)}.`];
}

export class Standing {
  constructor(formatBitrate) {
    this.formatBitrate = formatBitrate;
  }

  show({ level, load, publish, downlink }) {
    const [word, meaning] = LEVELS[level] ?? LEVELS.at(-1);
    const line = $("standing");
    line.hidden = false;
    line.dataset.level = level;
    $("level").title = `${meaning} Level ${level} of 5, load ${load} %.`;
    $("level-word").textContent = word;
    $("load").textContent = `load ${load} %`;
    [...$("gauge").children].forEach((bar, at) => (bar.dataset.lit = at <= level - 1 ? "yes" : "no"));
    this.limit($("limit-out"), publish);
    this.limit($("limit-in"), downlink);
  }

  limit(chip, cap) {
    chip.hidden = !cap;
    if (!cap) return;
    chip.dataset.by = cap.by;
    chip.querySelector("b").textContent = this.formatBitrate(cap.bps);
    chip.querySelector("small").textContent = WANTED_BY[cap.by] ?? "";
  }

  hide() {
    $("standing").hidden = true;
  }
}
