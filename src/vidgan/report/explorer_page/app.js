// The page: state in one object, the picture follows it.

const about = JSON.parse(document.getElementById("about").textContent);
const find = (id) => document.getElementById(id);
const state = {
  seed: 0n,
  otherSeed: 1n,
  motionSeed: null,
  label: null,
  truncation: null,
  weight: 0,
  mode: "linear",
  pushes: about.directions.map(() => 0),
  context: null,
  found: null,
};
const hooks = { clip: [], frame: [] };
const view = { frames: [], marks: [], shown: 0, playing: true, walking: false, smooth: false, since: 0 };

// --------------------------------------------------------------------------------------------
// The generator, in a worker

function embedded(id) {
  const text = find(id).textContent.trim();
  find(id).remove();
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const waiting = new Map();
let worker = null;

function startWorker() {
  worker = new Worker(
    URL.createObjectURL(new Blob([find("worker").textContent], { type: "text/javascript" })),
  );
  worker.onmessage = ({ data: { id, result, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  };
  worker.onerror = (event) => fail(event.message);
}

function ask(task, given, transfer = []) {
  const id = ask.count++;
  worker.postMessage({ id, task, given }, transfer);
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}
ask.count = 0;

// Large generators stay on the server that sent this page.
function generate(given) {
  return about.remote ? generateThere(about.current, given) : ask("generate", given);
}

function fail(message) {
  const where = about.remote ? "The server made no clip" : "The generator does not run in this browser";
  find("status").textContent = `${where}: ${message}`;
  find("status").classList.add("failed");
}

// --------------------------------------------------------------------------------------------
// From the state to what the generator takes

function latentOf(seed) {
  const motion = state.motionSeed ?? seed;
  return drawLatent(about.parts, about.latentLength, seed, motion);
}

function labelOf(seed) {
  if (!about.classes.length) return undefined;
  if (state.found && seed === state.seed) return state.label ?? state.found.label;
  return state.label ?? drawLabel(seed, about.classes.length);
}

function finished(latent) {
  const pushed = latent.slice();
  state.pushes.forEach((push, k) => {
    if (push) about.directions[k].values.forEach((value, i) => (pushed[i] += push * value));
  });
  return state.truncation === null ? pushed : truncate(pushed, state.truncation);
}

function request(seed, weight = 0) {
  const given = { label: labelOf(seed) };
  if (about.latentLength) {
    const own = state.found && seed === state.seed ? state.found.latent : latentOf(seed);
    const mixed = weight ? between(own, latentOf(state.otherSeed), weight, state.mode) : own;
    given.latent = finished(mixed);
  }
  if (about.context) given.context = { values: state.context, shape: [1, ...about.context.shape] };
  return given;
}

// What is shown: with given frames before the generated ones, where the clip does not hold them.
function framesOf(result) {
  const frames = toFrames(result);
  if (!about.context || !about.context.goesFirst) return { frames, marks: [] };
  const given = toFrames({ values: state.context, shape: about.context.shape });
  const marks = [...given.map(() => "given"), ...frames.map(() => "generated")];
  return { frames: [...given, ...frames], marks };
}

const pace = [];
let isBusy = false;
let isStale = false;

// Show what the state describes; while the generator works, only the newest wish is kept.
async function refresh() {
  describe();
  document.body.dataset.busy = "yes";
  if (isBusy) {
    isStale = true;
    return;
  }
  isBusy = true;
  try {
    do {
      isStale = false;
      await showOnce();
    } while (isStale);
  } catch (error) {
    fail(error.message);
  } finally {
    isBusy = false;
    document.body.dataset.busy = "no";
  }
}

async function showOnce() {
  const result = await generate(request(state.seed, state.weight));
  Object.assign(view, framesOf(result));
  view.shown %= view.frames.length;
  find("scrubber").max = view.frames.length - 1;
  pace.push(result.milliseconds);
  if (pace.length > 20) pace.shift();
  const typical = [...pace].sort((a, b) => a - b)[pace.length >> 1];
  find("pace").textContent = `${Math.round(typical)} ms a clip`;
  drawFrame();
  drawStrip();
  for (const follow of hooks.clip) await follow();
}

// --------------------------------------------------------------------------------------------
// The picture

const screen = find("screen");
const pen = screen.getContext("2d");

function drawFrame() {
  const frame = view.frames[view.shown];
  if (!frame) return;
  if (screen.width !== frame.width * about.enlarge) {
    screen.width = frame.width * about.enlarge;
    screen.height = frame.height * about.enlarge;
  }
  pen.imageSmoothingEnabled = view.smooth;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(toCanvas(frame), 0, 0, screen.width, screen.height);
  find("scrubber").value = view.shown;
  find("position").textContent = `${view.shown + 1} / ${view.frames.length}`;
  screen.dataset.mark = view.marks[view.shown] ?? "";
  for (const [t, cell] of [...find("strip").children].entries()) {
    cell.toggleAttribute("data-now", t === view.shown);
  }
  for (const follow of hooks.frame) follow();
}

function drawStrip() {
  const strip = find("strip");
  while (strip.children.length > view.frames.length) strip.lastChild.remove();
  view.frames.forEach((frame, t) => {
    const cell = strip.children[t] ?? strip.appendChild(document.createElement("canvas"));
    cell.width = frame.width;
    cell.height = frame.height;
    cell.dataset.mark = view.marks[t] ?? "";
    cell.getContext("2d", { willReadFrequently: true }).putImageData(frame, 0, 0);
  });
}

function tick(now) {
  requestAnimationFrame(tick);
  if (now - view.since < 1000 / about.fps) return;
  view.since = now;
  if (view.playing && view.frames.length) {
    view.shown = (view.shown + 1) % view.frames.length;
    drawFrame();
  }
  if (view.playing) gallery.forEach(drawTile);
}

function setPlaying(playing) {
  view.playing = playing;
  find("play").textContent = playing ? "Pause" : "Play";
}

// --------------------------------------------------------------------------------------------
// Words about the state

function describe() {
  const { seed, otherSeed, weight } = state;
  const name = about.classes.length ? about.classes[labelOf(seed)] : null;
  let text = about.latentLength ? `Seed ${seed}` : "The given clip";
  if (state.found) text = "Projected clip";
  if (weight) text += `, ${Math.round(100 * weight)} % of the way to seed ${otherSeed}`;
  if (name !== null) text += `, class ${name}`;
  screen.setAttribute("aria-label", `Generated clip. ${text}`);
  find("caption").textContent = text;
  find("code").textContent = pythonFor();
}

function pythonFor() {
  const which = about.checkpoint === null ? "" : `, "${about.checkpoint}"`;
  const lines = ["import vidgan", `generator = vidgan.load_generator(${about.source}${which})`];
  const length = about.numFrames ? `, num_frames=${about.numFrames}` : "";
  const latents = (seed) => `vidgan.sample_latents(generator, [${seed}]${length})`;
  const drawn = (name, seed) => {
    lines.push(`${name} = ${latents(seed)}`);
    if (state.motionSeed === null) return;
    lines.push(`motion = ${latents(state.motionSeed)}`);
    for (const part of about.parts.filter((p) => p.moves)) {
      lines.push(`${name}[:, ${part.start}:${part.stop}] = motion[:, ${part.start}:${part.stop}]`);
    }
  };
  if (state.found) {
    lines.splice(1, 0, "import json, torch");
    lines.push('latents = torch.tensor([json.load(open("latent.json"))["latent"]])  # as saved here');
  } else {
    drawn("latents", state.seed);
  }
  if (state.weight) {
    drawn("others", state.otherSeed);
    lines.splice(1, 0, "from vidgan.sampling.generate import latent_path");
    const step = Math.round(100 * state.weight);
    lines.push(
      `latents = latent_path(latents, others, 101, "${state.mode}")[${step} : ${step + 1}]`,
    );
  }
  if (state.pushes.some(Boolean)) {
    lines.splice(1, 0, "from vidgan.sharing.directions import find_directions");
    lines.push(`directions = find_directions(generator${length}).latents`);
    state.pushes.forEach((push, k) => push && lines.push(`latents += ${push} * directions[${k}]`));
  }
  const given = ["generator", "latents"];
  if (about.classes.length) given.push(`labels=${labelOf(state.seed)}`);
  if (about.context) given.push(`context=context`);
  if (state.truncation !== null) given.push(`truncation=${state.truncation}`);
  if (about.context) {
    lines.push(`context = ...  # your clip, uint8 [1, ${about.context.shape.join(", ")}]`);
  }
  lines.push(`clip = vidgan.sample_clips(${given.join(", ")}${length})[0]`);
  lines.push(`vidgan.save_video("clip.mp4", clip, fps=${about.fps})`);
  return lines.join("\n");
}

// --------------------------------------------------------------------------------------------
// Controls

const wholeNumber = (text) => (/^-?\d{1,18}$/.test(text.trim()) ? BigInt(text.trim()) : null);

function bindSeed(id, set, get) {
  const field = find(id);
  if (!field) return;
  field.addEventListener("input", () => {
    const seed = wholeNumber(field.value);
    field.setAttribute("aria-invalid", String(seed === null));
    if (seed !== null) set(seed);
  });
  for (const button of document.querySelectorAll(`[data-for="${id}"]`)) {
    button.addEventListener("click", () => {
      const by = button.dataset.by;
      const seed = by === "random" ? BigInt(Math.floor(Math.random() * 1e6)) : get() + BigInt(by);
      field.value = seed;
      field.setAttribute("aria-invalid", "false");
      set(seed);
    });
  }
}

function setSeed(seed) {
  state.seed = seed;
  state.found = null;
  if (find("seed")) find("seed").value = seed;
  refresh();
  fillGallery();
}

bindSeed("seed", setSeed, () => state.seed);
bindSeed("other", (seed) => ((state.otherSeed = seed), refresh()), () => state.otherSeed);
bindSeed("motion", (seed) => ((state.motionSeed = seed), refresh()), () => state.motionSeed ?? state.seed);

function bindSlider(id, set, show) {
  const slider = find(id);
  if (!slider) return;
  slider.addEventListener("input", () => {
    set(Number(slider.value));
    find(`${id}-value`).textContent = show(Number(slider.value));
    refresh();
  });
}

bindSlider("weight", (value) => (state.weight = value / 100), (value) => `${value} %`);
bindSlider(
  "truncation",
  (value) => (state.truncation = value >= 3 ? null : value),
  (value) => (value >= 3 ? "off" : value.toFixed(1)),
);
about.directions.forEach((_, k) => {
  bindSlider(`direction-${k}`, (value) => (state.pushes[k] = value), (value) => value.toFixed(1));
});
find("level")?.addEventListener("click", () => {
  about.directions.forEach((_, k) => {
    find(`direction-${k}`).value = 0;
    find(`direction-${k}-value`).textContent = "0.0";
    state.pushes[k] = 0;
  });
  refresh();
});
find("class")?.addEventListener("change", ({ target }) => {
  state.label = target.value === "" ? null : Number(target.value);
  refresh();
  fillGallery();
});
find("mode")?.addEventListener("change", ({ target }) => {
  state.mode = target.value;
  refresh();
});
find("play").addEventListener("click", () => setPlaying(!view.playing));
find("smooth").addEventListener("click", () => {
  view.smooth = !view.smooth;
  find("smooth").setAttribute("aria-pressed", String(view.smooth));
  drawFrame();
});
find("scrubber").addEventListener("input", ({ target }) => {
  setPlaying(false);
  view.shown = Number(target.value);
  drawFrame();
});

// A walk to the other seed and back, at the generator's own pace.
async function walk() {
  const start = performance.now();
  const from = state.weight;
  while (view.walking) {
    const way = from + ((performance.now() - start) / 1000) * Number(find("speed").value);
    const turned = way % 2;
    state.weight = Math.round(100 * (turned < 1 ? turned : 2 - turned)) / 100;
    find("weight").value = Math.round(100 * state.weight);
    find("weight-value").textContent = `${Math.round(100 * state.weight)} %`;
    await refresh();
    await new Promise(requestAnimationFrame);
  }
}
find("walk")?.addEventListener("click", () => {
  view.walking = !view.walking;
  find("walk").setAttribute("aria-pressed", String(view.walking));
  find("walk").textContent = view.walking ? "Stop" : "Walk";
  if (view.walking) walk();
});

find("copy").addEventListener("click", async () => {
  const text = find("code").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages from a file may not write to the clipboard: mark the text instead.
    getSelection().selectAllChildren(find("code"));
    find("copy").textContent = "Marked: copy with Ctrl-C";
    return;
  }
  find("copy").textContent = "Copied";
  setTimeout(() => (find("copy").textContent = "Copy"), 1500);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target !== document.body) return;
  if (event.key === " ") {
    event.preventDefault();
    setPlaying(!view.playing);
  }
  if (event.key === "ArrowLeft") setSeed(state.seed - 1n);
  if (event.key === "ArrowRight") setSeed(state.seed + 1n);
});

// --------------------------------------------------------------------------------------------
// Neighbours: clips of the next seeds, each a button

const gallery = [...document.querySelectorAll(".tile")].map((button) => ({
  button,
  canvas: button.querySelector("canvas"),
  frames: [],
  shown: 0,
}));
for (const tile of gallery) tile.button.addEventListener("click", () => setSeed(tile.seed));

function drawTile(tile) {
  if (!tile.frames.length) return;
  tile.shown = (tile.shown + 1) % tile.frames.length;
  tile.canvas.getContext("2d").putImageData(tile.frames[tile.shown], 0, 0);
}

let round = 0;
async function fillGallery() {
  const mine = ++round;
  for (const [i, tile] of gallery.entries()) {
    const seed = state.seed + BigInt(i + 1);
    let result;
    try {
      result = await generate(request(seed));
    } catch {
      return;
    }
    if (mine !== round) return;
    tile.seed = seed;
    tile.frames = framesOf(result).frames;
    tile.canvas.width = tile.frames[0].width;
    tile.canvas.height = tile.frames[0].height;
    const name = about.classes.length ? about.classes[labelOf(seed)] : "";
    tile.button.querySelector("span").textContent = name ? `${seed} ${name}` : `${seed}`;
    tile.button.setAttribute("aria-label", `Show seed ${seed} ${name}`);
    drawTile(tile);
  }
}

// --------------------------------------------------------------------------------------------
// Saving

function save(blob, suffix) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${about.title}-seed-${state.seed}.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

find("save-png").addEventListener("click", () => {
  toStrip(view.frames, about.enlarge).toBlob((blob) => save(blob, "png"));
});
find("save-gif").addEventListener("click", () => {
  save(toGif(view.frames, about.enlarge, about.fps), "gif");
});

const filmType = ["video/webm;codecs=vp9", "video/webm", "video/mp4"].find(
  (type) => window.MediaRecorder?.isTypeSupported(type) && screen.captureStream,
);
find("save-film").disabled = !filmType;
if (!filmType) find("save-film").title = "This browser records no films";
find("save-film").addEventListener("click", async () => {
  const reel = document.createElement("canvas");
  reel.width = screen.width;
  reel.height = screen.height;
  const reelPen = reel.getContext("2d");
  reelPen.imageSmoothingEnabled = false;
  const stream = reel.captureStream(0);
  const recorder = new MediaRecorder(stream, { mimeType: filmType, videoBitsPerSecond: 8e6 });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  find("save-film").disabled = true;
  recorder.start();
  for (const frame of [...view.frames, ...view.frames]) {
    reelPen.drawImage(toCanvas(frame), 0, 0, reel.width, reel.height);
    stream.getVideoTracks()[0].requestFrame();
    await new Promise((resolve) => setTimeout(resolve, 1000 / about.fps));
  }
  recorder.stop();
  await stopped;
  find("save-film").disabled = false;
  save(new Blob(parts, { type: filmType }), filmType.includes("webm") ? "webm" : "mp4");
});

// --------------------------------------------------------------------------------------------
// Start

async function startGenerator() {
  startWorker();
  const model = embedded("model");
  const binary = await inflated(embedded("binary"));
  const library = await inflated(embedded("library"));
  // Threads share memory, which browsers allow to pages from a server that asks for isolation.
  const threads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  await ask("start", { library, binary, model, threads }, [library.buffer, binary.buffer, model.buffer]);
}

async function begin() {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) setPlaying(false);
  describe();
  if (!about.remote) await startGenerator();
  await refresh();
  find("status").textContent = "";
  document.body.dataset.ready = "yes";
  fillGallery();
  requestAnimationFrame(tick);
}
