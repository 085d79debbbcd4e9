// The playground: sends the conversation, and shows the answer as it streams.
"use strict";

{
  const form = document.getElementById("playground");
  const byId = (id) => document.getElementById(id);
  const token = document.querySelector('meta[name="csrf-token"]')?.content ?? "";
  const conversation = []; // {role, content}
  let running = null; // the AbortController of the call that runs

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function turn(role, name) {
    const made = element("article", `turn ${role}`);
    made.append(element("h2", "turn-head", name));
    byId("turns").append(made);
    return made;
  }

  function numberOf(id, label) {
    const text = byId(id).value.trim();
    if (!text) return null;
    const number = Number(text);
    if (!Number.isFinite(number)) throw new Error(`${label} must be a number.`);
    return number;
  }

  // The request, with what is in the field of the message as its last turn.
  function request() {
    const body = { model: byId("model").value.trim(), system: byId("system").value, messages: [...conversation] };
    const message = byId("message").value;
    if (message.trim()) body.messages.push({ role: "user", content: message });
    const temperature = numberOf("temperature", "The temperature");
    const tokens = numberOf("max-tokens", "The number of output tokens");
    if (temperature !== null) body.temperature = temperature;
    if (tokens !== null) body.max_tokens = tokens;
    if (byId("effort").value) body.reasoning_effort = byId("effort").value;
    const tools = byId("tools").value.trim();
    if (tools) {
      try {
        body.tools = JSON.parse(tools);
      } catch {
        throw new Error("The tools must be a JSON array.");
      }
    }
    return body;
  }

  function post(path, body, accept, signal) {
    return fetch(form.dataset.base + path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": token, Accept: accept },
      body: JSON.stringify(body),
      signal,
    });
  }

  async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let kept = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      kept += value;
      const parts = kept.split("\n\n");
      kept = parts.pop();
      for (const part of parts) if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
    }
  }

  function money(nano) {
    if (nano === null || nano === undefined) return "unknown";
    const dollars = nano / 1e9;
    return dollars && dollars < 0.01 ? `$${dollars.toFixed(6).replace(/0+$/, "")}` : `$${dollars.toFixed(2)}`;
  }

  const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`);

  function facts(event) {
    const line = element("p", "facts-line");
    const add = (label, value) => {
      const fact = element("span", "", `${label} `);
      fact.append(element("b", "", String(value)));
      line.append(fact);
    };
    if (event.first_token_seconds !== null) add("First token", seconds(event.first_token_seconds));
    add("Total", seconds(event.seconds));
    if (event.input_tokens !== null) add("Input tokens", event.input_tokens);
    if (event.output_tokens !== null) add("Output tokens", event.output_tokens);
    if (event.reasoning_tokens) add("Reasoning tokens", event.reasoning_tokens);
    if (event.cache_read_tokens) add("From cache", event.cache_read_tokens);
    add("Cost", money(event.cost));
    if (event.reason) add("Finish reason", event.reason);
    return line;
  }

  // Shows the events of one answer. Returns the text.
  class Answer {
    constructor() {
      this.turn = turn("assistant", "Assistant");
      this.turn.setAttribute("aria-busy", "true");
      this.parts = new Map();
      this.text = "";
    }

    part(event, make) {
      if (!this.parts.has(event.index)) this.parts.set(event.index, make());
      return this.parts.get(event.index);
    }

    append(node) {
      this.turn.append(node);
      return node;
    }

    show(event) {
      if (event.type === "start") {
        this.turn.firstChild.textContent = ["Assistant", event.service, event.model].filter(Boolean).join(" · ");
        this.warn(event.warnings);
      } else if (event.type === "text") {
        this.text += event.text;
        this.typing(this.part(event, () => this.append(element("div", "answer-text")))).append(event.text);
      } else if (event.type === "reasoning") {
        const target = this.part(event, () => {
          const folded = element("details", "reasoning");
          folded.open = true;
          folded.append(element("summary", "", "Reasoning"));
          const text = element("div", "answer-text");
          folded.append(text);
          this.append(folded);
          return text;
        });
        this.typing(target).append(event.text);
      } else if (event.type === "tool" || event.type === "arguments") {
        const target = this.part(event, () => {
          const block = element("div", "tool-call");
          block.append(element("p", "", `Calls the tool ${event.name ?? ""}`));
          const code = element("pre");
          code.tabIndex = 0;
          block.append(code);
          this.append(block);
          return code;
        });
        if (event.text) target.append(event.text);
      } else if (event.type === "part") {
        this.append(element("p", "muted", `[${event.text}]`));
      } else if (event.type === "warnings") {
        this.warn(event.warnings);
      } else if (event.type === "end") {
        this.append(facts(event));
      } else if (event.type === "error") {
        this.fail(event.message);
      }
    }

    typing(node) {
      if (this.current !== node) {
        this.current?.classList.remove("typing");
        node.classList.add("typing");
        this.current = node;
      }
      return node;
    }

    warn(warnings) {
      for (const text of warnings ?? []) this.append(element("p", "notice warn", text));
    }

    fail(message) {
      this.failed = true;
      this.append(element("p", "notice bad", message));
    }

    end() {
      this.current?.classList.remove("typing");
      this.turn.removeAttribute("aria-busy");
    }
  }

  function say(text) {
    byId("status").textContent = text;
  }

  function setRunning(controller) {
    running = controller;
    byId("send").hidden = Boolean(controller);
    byId("stop").hidden = !controller;
  }

  async function send() {
    if (running) return;
    let body;
    try {
      body = request();
      if (!byId("message").value.trim()) throw new Error("Write a message first.");
    } catch (error) {
      say(error.message);
      new Answer().fail(error.message);
      return;
    }
    const asked = body.messages.at(-1);
    conversation.push(asked);
    turn("user", "You").append(element("div", "answer-text", asked.content));
    byId("message").value = "";
    const answer = new Answer();
    const controller = new AbortController();
    setRunning(controller);
    say("The model is answering.");
    try {
      const response = await post("/playground/stream", body, "text/event-stream", controller.signal);
      if (!response.ok) {
        answer.fail(response.redirected ? "You are signed out. Reload the page." : await response.text());
      } else {
        for await (const event of events(response)) answer.show(event);
      }
      say(answer.failed ? "The call failed." : `The answer is complete: ${answer.text}`);
    } catch (error) {
      const stopped = error.name === "AbortError";
      if (stopped) answer.append(element("p", "muted", "Stopped."));
      else answer.fail("The connection was lost.");
      say(stopped ? "Stopped." : "The connection was lost.");
    } finally {
      answer.end();
      setRunning(null);
      if (answer.text) conversation.push({ role: "assistant", content: answer.text });
      else conversation.pop();
      byId("message").focus();
    }
    if (byId("code").open) showCode();
  }

  async function showCode() {
    let code;
    try {
      const body = request();
      // After an answer, the code is that of the call which was made.
      if (!byId("message").value.trim() && body.messages.at(-1)?.role === "assistant") body.messages.pop();
      if (!body.messages.length) throw new Error("Write a message first.");
      const response = await post("/playground/code", body, "application/json");
      code = response.ok ? await response.json() : await response.text();
    } catch (error) {
      code = error.message;
    }
    for (const language of ["python", "curl", "openai"]) {
      byId(`code-${language}`).textContent = typeof code === "string" ? code : code[language];
    }
  }

  if (form) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    byId("message").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
    });
    byId("stop").addEventListener("click", () => running?.abort());
    byId("clear").addEventListener("click", () => {
      running?.abort();
      conversation.length = 0;
      byId("turns").replaceChildren();
      byId("message").focus();
    });
    byId("code").addEventListener("toggle", () => byId("code").open && showCode());
    form.addEventListener("change", () => byId("code").open && showCode());
    const tabs = [...form.querySelectorAll("[role=tab]")];
    const choose = (chosen) => {
      for (const tab of tabs) {
        tab.setAttribute("aria-selected", String(tab === chosen));
        tab.tabIndex = tab === chosen ? 0 : -1;
        byId(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
      }
      chosen.focus();
    };
    for (const [index, tab] of tabs.entries()) {
      tab.addEventListener("click", () => choose(tab));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step) choose(tabs[(index + step + tabs.length) % tabs.length]);
      });
    }
  }
}
