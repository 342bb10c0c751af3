// The chat box: everybody who has a data channel `chat` open in the room hears what is said on it. The server relays it as it is;
// names are what the senders say.

export class Chat {
  constructor(name) {
    this.name = name;
    this.list = document.getElementById("chat-lines");
    this.form = document.getElementById("chat-form");
    this.input = document.getElementById("chat-text");
    this.list.replaceChildren();
    this.form.onsubmit = (event) => (event.preventDefault(), this.say());
    this.carry(null);
  }

  // Over another connection from now on; what was said stays.
  carry(channel) {
    this.channel = channel;
    this.show();
    if (!channel) return;
    const current = () => this.channel === channel;
    channel.onopen = channel.onclose = () => current() && this.show();
    channel.onmessage = ({ data }) => current() && this.hear(data);
  }

  show() {
    this.input.disabled = this.channel?.readyState !== "open";
  }

  say() {
    const words = this.input.value.trim();
    if (!words || this.channel?.readyState !== "open") return;
    this.channel.send(JSON.stringify({ name: this.name, text: words }));
    this.add(`${this.name} (you)`, words);
    this.input.value = "";
  }

  // Anybody in the room can send anything.
  hear(data) {
    let message = null;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (typeof message?.name === "string" && typeof message?.text === "string") this.add(message.name, message.text);
  }

  add(who, words) {
    const line = document.createElement("li");
    const name = document.createElement("b");
    name.textContent = who.slice(0, 64);
    line.append(name, " ", words.slice(0, LONGEST));
    this.list.append(line);
    while (this.list.children.length > LINES_KEPT) this.list.firstChild.remove();
    this.list.scrollTop = this.list.scrollHeight;
  }
}

export const LABEL = "chat";
const LINES_KEPT = 100;
export const LONGEST = 2_000;
